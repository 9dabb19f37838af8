--------------------------- MODULE RejoinMembers ---------------------------
(* Way A after the members have changed.

   A node that the cluster has left behind (it never heard that it was removed)
   still counts the old voters.  A voter of both configurations is rebuilt: its
   barrier is held by the voters of the new configuration, of whom the one left
   behind may need nobody.  What keeps it from being elected is that a node
   which recovers grants nobody who lacks its barrier.

   The constant Without is the guard that is taken out, one of Core's or
     "barrier voted for"  the recovering node votes by what is left of its log
     "barrier"            wiped as soon as it is stopped
   Sources: core/voting.py (_must_hold), core/barrier.py, core/quorum.py
   (holds_without).                                                           *)
EXTENDS CoreModel
CONSTANT Lost
VARIABLES phase,   \* "up", "stopped", "proposed", "back"
          barrier  \* <<term, index>>
rejoinvars == <<modelvars, phase, barrier>>

IsDown == phase \in {"stopped", "proposed"}
IsRecovering == phase = "back" /\ TermAt(log[Lost], barrier[2]) # barrier[1]
RejoinInit == SettledInit /\ phase = "up" /\ barrier = <<0, 0>>
\* The learners have taken the place of those that campaign, who have not heard of it.
New == (Founders \ Candidates) \cup Learners
LeftBehind == [s \in Server |-> IF s \in Candidates THEN Agreeing[s] ELSE
  [Agreeing[s] EXCEPT !.log = @ \o <<Entry(1, [v |-> <<Founders, New>>, l |-> {}]), Entry(1, Uniform(New, {}))>>]]

Asleep == /\ vote'[Lost] = vote[Lost] /\ role'[Lost] = role[Lost] /\ log'[Lost] = log[Lost] /\ pend'[Lost] = pend[Lost]
          /\ \A t \in 1..MaxTerm : acked'[t][Lost] = acked[t][Lost]
GrantsInStep == vote'[Lost] # vote[Lost] /\ ~vote'[Lost].c /\ vote'[Lost].n # Nobody
HasToHold == Is("barrier voted for") =>
  \E m \in Asked : m.t = vote'[Lost].t /\ Node[m.from] = vote'[Lost].n /\ AtLeast(m.last, barrier)
Live == /\ Next
        /\ IsDown => Asleep
        /\ IsRecovering => role'[Lost] = "follower" /\ (GrantsInStep => HasToHold)
        /\ UNCHANGED <<phase, barrier>>

Stop == /\ phase = "up" /\ role[Lost] # "leader" /\ pend[Lost] = <<>>
        /\ phase' = "stopped" /\ UNCHANGED <<modelvars, barrier>>
ProposeBarrier(x) ==
  /\ phase = "stopped" /\ x # Lost /\ Is("barrier") /\ Len(log[x]) < MaxLen
  /\ Propose(x)
  /\ barrier' = <<vote[x].t, Len(log[x]) + 1>> /\ phase' = "proposed"
  /\ UNCHANGED crashes
\* core/quorum.py: holds_without
EnoughWithout(holders, set) ==
  LET n == Cardinality(set)
      quorum == n \div 2 + 1
  IN  Cardinality((holders \cap set) \ {Lost}) >= IF Lost \in set THEN n - quorum + 1 ELSE quorum
IsHeld == \E x \in Server \ {Lost} :
  /\ role[x] = "leader" /\ vote[x].t = barrier[1]
  /\ \A k \in 1..Len(ConfigOf(log[x]).v) : EnoughWithout(Holders(x, barrier[2]), ConfigOf(log[x]).v[k])
\* Term and vote are kept, all else is gone.
Wipe ==
  /\ \/ phase = "proposed" /\ IsHeld
     \/ phase = "stopped" /\ ~Is("barrier")
  /\ log' = [log EXCEPT ![Lost] = <<>>]
  /\ disk' = [disk EXCEPT ![Lost].l = <<>>]
  /\ flushed' = [flushed EXCEPT ![Lost] = 0] /\ committed' = [committed EXCEPT ![Lost] = 0]
  /\ role' = [role EXCEPT ![Lost] = "follower"]
  /\ phase' = "back"
  /\ UNCHANGED <<vote, pend, snap, purged, said, acked, reign, chosen, asof, broken, crashes, barrier>>

RejoinNext == Live \/ Stop \/ Wipe \/ \E x \in Server : ProposeBarrier(x)
RejoinSpec == RejoinInit /\ [][RejoinNext]_rejoinvars
=============================================================================
