--------------------------- MODULE RejoinInPlace ---------------------------
(* A voter that has forgotten everything comes back under its own name.

   Why raft_engine does not do this: which rules would make it safe?  The
   constant Policy is the answer that is tried.

     "none"              it takes part at once
     "quorum prepared"   before the loss the leader made sure that a quorum of
                         the others holds all that is committed, then as above
     "all prepared"      ... that every other voter does; answers of the old
                         life are void
     "mute"              the returned node never votes and is never counted
     "caught up"         mute until its log is its leader's, then as before
                         (with the vote of its present term given away)
     "confirmed"         ... and a quorum of the others is in the leader's term
                         and holds everything
     "all confirmed"     ... and every other voter is and does
     "remembered"        "confirmed", and the quorum remembers the new life: a
                         candidate that knows of it does not count a grant of
                         the old one; what a mute node acknowledged counts
                         later only if it acknowledges it again
     "remembered, old answers"  ... without that last clause

   Nothing short of asking every other voter is safe with five of them, and
   three voters hide it.  Hence two other ways: RejoinKept and RejoinNewLife.  *)
EXTENDS Replicas
CONSTANTS Lost, Policy,
          Losses \* disks that may be lost: the first is that of Lost, more of others with Policy "none" only
VARIABLES life,   \* how often Lost has lost its disk
          muted,
          known,  \* server -> newest life of Lost it has heard of
          stale   \* candidates whose grant by Lost is of its first life
vars == <<base, life, muted, known, stale>>

Others == Server \ {Lost}
LifeOf(s) == IF s = Lost THEN life ELSE 0
IsMuted(s) == s = Lost /\ muted
Remembers == Policy \in {"remembered", "remembered, old answers"}

Init == BaseInit /\ life = 0 /\ muted = FALSE /\ known = [s \in Server |-> 0] /\ stale = {}

CountedGrants(i) == IF Remembers /\ known[i] > 0 /\ i \in stale THEN granted[i] \ {Lost} ELSE granted[i]

\* life and muteness at the time of an acknowledgement
Mark(s) == <<LifeOf(s), IsMuted(s)>>
Counts(a) == (a.from = Lost /\ Policy # "none") =>
  /\ a.mark[1] = life /\ ~muted
  /\ a.mark[2] => Policy = "remembered, old answers"
CountedAcks == {a \in acks : Counts(a)}

\* The others hold all that is committed, in the term of leader x.
HoldsAll(s) == \A c \in committed : c.at <= Len(log[s]) /\ log[s][c.at] = c.entry
Confirmed(x, set) ==
  /\ role[x] = "leader" /\ x \in set /\ OwnTermCommitted(x)
  /\ \A s \in set : term[s] = term[x] /\ HoldsAll(s) /\ \E k \in 1..Len(log[s]) : log[s][k].t = term[x]
QuorumsOfOthers == {set \in SUBSET Others : Majority(set, Server)}

Prepared == CASE Policy = "quorum prepared" -> \E x \in Others, set \in QuorumsOfOthers : Confirmed(x, set)
              [] Policy = "all prepared" -> \E x \in Others : Confirmed(x, Others)
              [] OTHER -> TRUE
Lose ==
  /\ life = 0 /\ term[Lost] > 0 /\ Prepared = TRUE
  /\ term' = [term EXCEPT ![Lost] = 0] /\ vote' = [vote EXCEPT ![Lost] = Nobody]
  /\ log' = [log EXCEPT ![Lost] = <<>>] /\ role' = [role EXCEPT ![Lost] = "follower"]
  /\ granted' = [granted EXCEPT ![Lost] = {}]
  /\ life' = life + 1
  /\ muted' = (Policy \notin {"none", "quorum prepared", "all prepared"})
  /\ stale' = {i \in Server : Lost \in granted[i]}
  /\ UNCHANGED <<acks, committed, leaders, known>>
\* Another one loses its disk after Lost has.
LoseToo(s) ==
  /\ Policy = "none" /\ s \in Others /\ life > 0 /\ life < Losses /\ term[s] > 0 /\ role[s] # "leader"
  /\ term' = [term EXCEPT ![s] = 0] /\ vote' = [vote EXCEPT ![s] = Nobody]
  /\ log' = [log EXCEPT ![s] = <<>>] /\ role' = [role EXCEPT ![s] = "follower"]
  /\ granted' = [granted EXCEPT ![s] = {}]
  /\ life' = life + 1
  /\ UNCHANGED <<acks, committed, leaders, muted, known, stale>>

CaughtUp(x) == role[x] = "leader" /\ term[Lost] = term[x] /\ IsPrefix(log[x], log[Lost]) /\ OwnTermCommitted(x)
\* The quorum that vouches for the return; {} where the policy asks for none.
Vouching == CASE Policy = "caught up" -> IF \E x \in Others : CaughtUp(x) THEN {{}} ELSE {}
              [] Policy = "all confirmed" -> IF \E x \in Others : CaughtUp(x) /\ Confirmed(x, Others) THEN {Others} ELSE {}
              [] Policy \in {"confirmed", "remembered", "remembered, old answers"} ->
                   {set \in QuorumsOfOthers : \E x \in set : CaughtUp(x) /\ Confirmed(x, set)}
              [] OTHER -> {}
Return ==
  /\ muted
  /\ \E set \in Vouching : known' = [s \in Server |-> IF Remembers /\ s \in set THEN life ELSE known[s]]
  /\ vote' = [vote EXCEPT ![Lost] = "given away"]
  /\ muted' = FALSE
  /\ UNCHANGED <<term, log, role, granted, acks, committed, leaders, life, stale>>

\* Who grants tells the candidate which life of Lost it knows.
GrantAndTell(j, i) ==
  /\ ~IsMuted(j) /\ Grant(j, i)
  /\ known' = [known EXCEPT ![i] = IF known[j] > @ THEN known[j] ELSE @]
  /\ UNCHANGED <<life, muted, stale>>

Next == \/ \E i \in Server : /\ ~IsMuted(i)
                             /\ \/ Campaign(i) /\ stale' = stale \ {i}
                                \/ Win(i, CountedGrants(i)) /\ UNCHANGED stale
                                \/ Propose(i) /\ UNCHANGED stale
                                \/ (\E k \in 1..MaxLen : Commit(i, k, CountedAcks)) /\ UNCHANGED stale
                             /\ UNCHANGED <<life, muted, known>>
        \/ \E i, j \in Server : GrantAndTell(j, i)
        \/ \E i, j \in Server : Replicate(i, j, Len(log[i]), Mark(j)) /\ UNCHANGED <<life, muted, known, stale>>
        \/ Lose \/ Return \/ \E s \in Server : LoseToo(s)
Spec == Init /\ [][Next]_vars
Alike == Permutations(Server \ {First, Rival, Lost})
=============================================================================
