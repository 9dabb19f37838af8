--------------------------- MODULE RejoinNewLife ---------------------------
(* Way B: a voter whose disk is gone comes back as another server.

   Lost is its first life: it has answered, and never will again.  New is the
   second one: blank, with an incarnation of its own.  The leader brings it up
   to date as a learner and replaces Lost by New in one joint change; people
   see the same node ids before and after.

   The constant Without is the guard that is taken out:
     "nothing"         all guards on
     "incarnations"    New is taken for Lost: its grants and acknowledgements
                       count wherever Lost is a voter
     "joint"           New replaces Lost in one step
     "joint committed" the second step is taken before the first is committed
     "mute"            the blank node grants
     "caught up"       New becomes a voter without having been brought up to date
   The last two cost availability, not safety: a new server has promised
   nothing that it could have forgotten.                                      *)
EXTENDS Replicas
CONSTANTS Lost, New, Without
VARIABLES lost  \* whether the disk is gone
vars == <<base, lost>>

Init == BaseInit /\ lost = FALSE

OldVoters == {Founders}
NewVoters == {(Founders \ {Lost}) \cup {New}}
Joint == OldVoters \cup NewVoters

\* By name alone nobody can tell New from Lost.
Named(set) == IF Without = "incarnations" /\ New \in set THEN set \cup {Lost} ELSE set
CountedGrants(i) == Named(granted[i])
\* What New answers counts as Lost's too.
CountedAcks == acks \cup (IF Without = "incarnations" THEN {[a EXCEPT !.from = Lost] : a \in {b \in acks : b.from = New}} ELSE {})

IsAlive(s) == (s = Lost => ~lost) /\ (s = New => lost)
IsBlank(s) == s = New /\ log[s] = <<>>
MayGrant(s) == IsBlank(s) => Without \in {"mute", "incarnations"}
MayStand(s) == ~IsBlank(s) /\ s \in Voters(ConfigOf(log[s]))

Lose ==
  /\ ~lost /\ term[Lost] > 0
  /\ lost' = TRUE
  /\ role' = [role EXCEPT ![Lost] = "follower"]
  /\ UNCHANGED <<term, vote, log, granted, acks, committed, leaders>>

\* One change at a time, by a leader whose own term is committed.
Settled(i) == /\ OwnTermCommitted(i)
              /\ \A k \in 1..Len(log[i]) : log[i][k].c # Plain => IsCommitted(i, k)
IsUpToDate(i) == Without = "caught up" \/ \E a \in acks : a.to = i /\ a.t = term[i] /\ a.from = New /\ a.upto = Len(log[i])

Replace(i) ==
  /\ role[i] = "leader" /\ lost /\ Settled(i) /\ IsUpToDate(i)
  /\ ConfigOf(log[i]) = OldVoters
  /\ Append1(i, ConfigEntry(term[i], IF Without = "joint" THEN NewVoters ELSE Joint))
LeaveJoint(i) ==
  /\ role[i] = "leader" /\ ConfigOf(log[i]) = Joint
  /\ Without # "joint committed" => Settled(i)
  /\ Append1(i, ConfigEntry(term[i], NewVoters))

Next == \/ \E i \in Server : /\ IsAlive(i)
                             /\ \/ MayStand(i) /\ Campaign(i)
                                \/ Win(i, CountedGrants(i))
                                \/ Propose(i)
                                \/ \E k \in 1..MaxLen : Commit(i, k, CountedAcks)
                                \/ Replace(i) \/ LeaveJoint(i)
                             /\ UNCHANGED lost
        \/ \E i, j \in Server : /\ IsAlive(i) /\ IsAlive(j)
                                /\ \/ MayGrant(j) /\ Grant(j, i)
                                   \/ Replicate(i, j, Len(log[i]), 0)
                                /\ UNCHANGED lost
        \/ Lose
Spec == Init /\ [][Next]_vars
Alike == Permutations(Server \ {First, Rival, Lost, New})
=============================================================================
