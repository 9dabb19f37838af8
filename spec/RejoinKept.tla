----------------------------- MODULE RejoinKept -----------------------------
(* Way A: a voter is rebuilt on purpose and keeps its term and vote.

   Stop it; the leader appends a barrier and waits until n - q + 1 other voters
   hold it; wipe log and state machine; start.  Until its log holds the barrier
   the node is recovering: it does not campaign.  It may grant.

   The constant Without is the guard that is taken out:
     "nothing"           all guards on
     "barrier"           wiped as soon as it is stopped
     "barrier after stop"  an entry that was committed before serves as barrier
     "barrier without it"  the barrier may be held by any quorum, the stopped
                           node's earlier answers included
     "enough holders"    one holder fewer than n - q + 1
     "kept vote"         term and vote are lost as well
     "void answers"      acknowledgements of the first life count for ever
     "no campaign"       the recovering node campaigns

   The last three are safe or not depending on the size and the history of the
   cluster; the table of the runner says where.

   History: <<>>, or "founded alone": the cluster began as {Lost} and grew, so
   that the log which the recovering node replays begins with a configuration
   in which it alone is a quorum (trace T9 of the rejoin design).              *)
EXTENDS Replicas
CONSTANTS Lost, Without, FoundedAlone
VARIABLES phase,    \* "up", "stopped", "proposed", "back"
          barrier   \* [at, t]; at = 0: none
vars == <<base, phase, barrier>>

Others == Server \ {Lost}
N == Cardinality(Server)
Needed == (N - (N \div 2 + 1) + 1) - (IF Without = "enough holders" THEN 1 ELSE 0)
IsDown(s) == s = Lost /\ phase \in {"stopped", "proposed"}
IsBack == phase = "back"
HasBarrier(s) == barrier.at > 0 /\ barrier.at <= Len(log[s]) /\ log[s][barrier.at].t = barrier.t
IsRecovering(s) == s = Lost /\ IsBack /\ ~HasBarrier(s)

AloneHistory == <<ConfigEntry(1, {{Lost}}), ConfigEntry(1, {Server})>>
Init ==
  /\ phase = "up" /\ barrier = [at |-> 0, t |-> 0]
  /\ IF ~FoundedAlone THEN BaseInit
     ELSE /\ term = [s \in Server |-> 1] /\ vote = [s \in Server |-> First]
          /\ log = [s \in Server |-> AloneHistory]
          /\ role = [s \in Server |-> IF s = First THEN "leader" ELSE "follower"]
          /\ granted = [s \in Server |-> {}] /\ acks = {}
          /\ committed = {[at |-> k, entry |-> AloneHistory[k], by |-> 1] : k \in 1..2}
          /\ leaders = {<<1, First>>}

\* The mark of an acknowledgement: was it given before the wipe?
Mark(s) == s = Lost /\ ~IsBack
Counts(a) == (a.from = Lost /\ IsBack /\ a.mark) => Without = "void answers"
CountedAcks == {a \in acks : Counts(a)}

Stop ==
  /\ phase = "up" /\ role[Lost] # "leader" /\ term[Lost] > 0
  /\ phase' = "stopped"
  /\ UNCHANGED <<base, barrier>>

ProposeBarrier(x) ==
  /\ phase = "stopped" /\ x # Lost /\ Without \notin {"barrier", "barrier after stop"}
  /\ Propose(x)
  /\ barrier' = [at |-> Len(log[x]) + 1, t |-> term[x]]
  /\ phase' = "proposed"

TakeOldBarrier(x) ==
  /\ phase = "stopped" /\ x # Lost /\ Without = "barrier after stop"
  /\ role[x] = "leader" /\ log[x] # <<>> /\ IsCommitted(x, Len(log[x]))
  /\ barrier' = [at |-> Len(log[x]), t |-> log[x][Len(log[x])].t]
  /\ phase' = "proposed"
  /\ UNCHANGED base

Holders(x) == {x} \cup {a.from : a \in {b \in acks : b.to = x /\ b.t = term[x] /\ b.upto >= barrier.at}}
BarrierIsHeld == \E x \in Others :
  /\ role[x] = "leader" /\ term[x] = barrier.t
  /\ IF Without = "barrier without it" THEN Cardinality(Holders(x) \cup {Lost}) >= N \div 2 + 1
     ELSE Cardinality(Holders(x) \ {Lost}) >= Needed

Wipe ==
  /\ CASE Without = "barrier" -> phase = "stopped"
       [] Without = "barrier after stop" -> phase = "proposed"
       [] OTHER -> phase = "proposed" /\ BarrierIsHeld
  /\ log' = [log EXCEPT ![Lost] = <<>>]
  /\ role' = [role EXCEPT ![Lost] = "follower"]
  /\ granted' = [granted EXCEPT ![Lost] = {}]
  /\ term' = [term EXCEPT ![Lost] = IF Without = "kept vote" THEN 0 ELSE @]
  /\ vote' = [vote EXCEPT ![Lost] = IF Without = "kept vote" THEN Nobody ELSE @]
  /\ phase' = "back"
  /\ UNCHANGED <<acks, committed, leaders, barrier>>

\* An empty log knows no configuration: such a node does not campaign either.
Knows(i) == log[i] # <<>> \/ ~FoundedAlone
MayStand(i) == ~IsDown(i) /\ Knows(i) /\ (IsRecovering(i) => Without \in {"barrier", "no campaign"})
Sent(i) == IF FoundedAlone THEN 1..Len(log[i]) ELSE {Len(log[i])}

Next == \/ \E i \in Server : /\ ~IsDown(i)
                             /\ \/ MayStand(i) /\ Campaign(i)
                                \/ Win(i, granted[i])
                                \/ Propose(i)
                                \/ \E k \in 1..MaxLen : Commit(i, k, CountedAcks)
                             /\ UNCHANGED <<phase, barrier>>
        \/ \E i, j \in Server : ~IsDown(i) /\ ~IsDown(j) /\ Grant(j, i) /\ UNCHANGED <<phase, barrier>>
        \/ \E i, j \in Server : /\ ~IsDown(i) /\ ~IsDown(j)
                                /\ \E n \in Sent(i) : Replicate(i, j, n, Mark(j))
                                /\ UNCHANGED <<phase, barrier>>
        \/ \E x \in Server : ProposeBarrier(x) \/ TakeOldBarrier(x)
        \/ Stop \/ Wipe
Spec == Init /\ [][Next]_vars
Alike == Permutations(Server \ {First, Rival, Lost})
=============================================================================
