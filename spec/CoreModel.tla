----------------------------- MODULE CoreModel -----------------------------
(* Core within bounds, for TLC: which clusters, which actions, how far.

   Acts names the actions that may happen besides elections and replication:
   "prevote" (who campaigns asks first), "adopt" (a term heard of in an answer),
   "crash", "write", "change", "snapshot", "purge", "chunk", and "unheard": followers
   do not hear of commits (what they know matters to snapshots).  Without "async"
   whatever is written is durable before anything else happens.
   A request carries one entry and what is committed by now: a longer or an
   older one leads to no state that some order of these does not lead to.      *)
EXTENDS Core
CONSTANTS Founders,    \* the first voters
          Learners,    \* the first learners, up to date; whoever is neither is blank
          Candidates,  \* who may campaign
          First,       \* leads term 1 when the model begins, its first entry written; "nobody": all begin as followers
          Acts, Targets, \* configurations that may be asked for
          MaxLen, MaxPending, MaxCrashes, Crashers,
          Builders     \* who builds snapshots and purges; what may be installed is any committed part of a leader's log
VARIABLE crashes
modelvars == <<vars, crashes>>

NodeIsServer == [s \in Server |-> s]
Uniform(voters, learners) == [v |-> <<voters>>, l |-> learners]
\* A founder that is no candidate goes, the learner comes.
Exchange == LET gone == CHOOSE s \in Founders : s # First /\ s \notin Candidates IN {Uniform((Founders \ {gone}) \cup Learners, {})}
AnyVoters == {Uniform(voters, {}) : voters \in SUBSET Server \ {{}}}
FirstEntry == Entry(0, Uniform(Founders, Learners))
Members == Founders \cup Learners
Founded == [s \in Server |-> [vote |-> NoVote, log |-> IF s \in Members THEN <<FirstEntry>> ELSE <<>>]]
LedByFirst == [s \in Server |->
  [vote |-> IF s \in {First} \cup Candidates THEN [t |-> 1, n |-> Node[First], c |-> FALSE] ELSE NoVote,
   log |-> IF s = First THEN <<FirstEntry, Entry(1, Plain)>> ELSE Founded[s].log]]
\* The same, and everybody has heard of it.
HeardOfFirst == [s \in Server |->
  [vote |-> IF s = First THEN LedByFirst[s].vote ELSE [t |-> 1, n |-> Node[First], c |-> TRUE], log |-> LedByFirst[s].log]]
Agreeing == [s \in Server |-> [HeardOfFirst[s] EXCEPT !.log = IF s \in Members THEN LedByFirst[First].log ELSE <<>>]]
\* ... but those founders that are no candidates, who have heard nothing yet.
OneBehind == [s \in Server |-> IF s \in {First} \cup Candidates THEN Agreeing[s] ELSE Founded[s]]
\* Figure 8 of the paper: First led term 1 and wrote an entry, another node led term 2 and wrote another, nobody has either.
Figure8 == [s \in Server |->
  [vote |-> [t |-> IF s = First THEN 1 ELSE 2, n |-> "somebody", c |-> FALSE],
   log |-> CASE s = First -> <<FirstEntry, Entry(1, Plain)>>
             [] s \in Candidates \ {First} -> <<FirstEntry, Entry(2, Plain)>>
             [] OTHER -> <<FirstEntry>>]]
ModelInit == Init /\ crashes = 0
LedInitWith(com) ==
  /\ crashes = 0
  /\ vote = [s \in Server |-> [Start[s].vote EXCEPT !.c = @ \/ s = First]]
  /\ role = [s \in Server |-> IF s = First THEN "leader" ELSE "follower"]
  /\ reign = [t \in 1..MaxTerm |-> IF t = 1 THEN [s |-> First, log |-> Start[First].log, com |-> com] ELSE NoReign]
  /\ log = [s \in Server |-> Start[s].log]
  /\ disk = [s \in Server |-> [v |-> Start[s].vote, l |-> Start[s].log]]
  /\ flushed = [s \in Server |-> Len(Start[s].log)]
  /\ InitNothing
LedInit == LedInitWith(0) /\ InitUncommitted
\* What First has is committed: those who have all of it have acknowledged it.
SettledInit ==
  LET all == Start[First].log
      t == Start[First].vote.t
  IN  /\ LedInitWith(Len(all))
      /\ committed = [s \in Server |-> IF s = First THEN Len(all) ELSE 0]
      /\ acked = [u \in 1..MaxTerm |-> [s \in Server |-> IF u = t /\ s # First /\ Start[s].log = all THEN Len(all) ELSE 0]]
      /\ chosen = [k \in 1..Len(all) |-> [e |-> all[k], by |-> t]]

\* A node acts when no more than MaxPending of its writes are under way.
Room(i) == Len(pend[i]) <= MaxPending
MayCampaign(i) == \/ "prevote" \notin Acts
                  \/ WouldWin(i, vote[i].t + 1)
                  \/ role[i] = "pre" /\ ~Is("pre-vote")
Asked == {m \in said : m.k = "ask"}
Wanted(now) == {[v |-> <<now.v[Len(now.v)], c.v[1]>>, l |-> c.l] : c \in Targets} \cup {[v |-> <<now.v[Len(now.v)]>>, l |-> now.l]}
               \cup Targets
Step ==
  \/ \E i \in Candidates : /\ Room(i)
                           /\ \/ "prevote" \in Acts /\ vote[i].t < MaxTerm /\ PreCampaign(i)
                              \/ MayCampaign(i) /\ Campaign(i, vote[i].t + 1)
                              \/ Len(log[i]) < MaxLen /\ Win(i)
                              \/ /\ "prevote" \in Acts /\ role[i] = "pre"
                                 /\ \E j \in Server : PreGrant(j, i, vote[i].t + 1, LastId(log[i]))
  \/ \E j \in Server, m \in Asked : Room(j) /\ Grant(j, m)
  \/ \E i \in Server : \/ "async" \in Acts /\ Flush(i, 1)
                       \/ "adopt" \in Acts /\ Room(i) /\ \E t \in 1..MaxTerm : AdoptTerm(i, t)
                       \/ "write" \in Acts /\ Room(i) /\ Len(log[i]) < MaxLen /\ Propose(i)
                       \/ \E k \in 1..MaxLen : Commit(i, k)
  \/ \E j \in Server, t \in 1..MaxTerm : Room(j) /\ \E upto \in 1..Len(reign[t].log) :
       HandleAppend(j, t, upto - 1, upto, CASE "unheard" \in Acts -> 0
                                            [] Is("commit bound") -> Min(upto, reign[t].com)
                                            [] OTHER -> reign[t].com)
  \/ /\ "change" \in Acts
     /\ \E i \in Server : /\ role[i] = "leader" /\ Room(i) /\ Len(log[i]) < MaxLen
                          /\ \E new \in Wanted(ConfigOf(log[i])) : AppendConfig(i, new)
  \/ /\ "snapshot" \in Acts
     /\ \/ \E i \in Builders : \/ Len(snap[i]) < committed[i] /\ BuildSnapshot(i, Min(committed[i], flushed[i]))
                               \/ "purge" \in Acts /\ Room(i) /\ Purge(i, IF Is("snapshot covers") THEN Len(snap[i]) ELSE Len(log[i]))
        \/ \E j \in Server, t \in 1..MaxTerm, k \in 1..MaxLen : Room(j) /\ (Install(j, t, k) \/ ("chunk" \in Acts /\ HandleChunk(j, t, k)))
Ends == /\ "crash" \in Acts /\ crashes < MaxCrashes
        /\ \E i \in Crashers : \E n \in 0..Len(pend[i]) : \E v \in n..Len(pend[i]) : Crash(i, n, v, 0)
        /\ crashes' = crashes + 1 /\ UNCHANGED purged
Writing == {i \in Server : pend[i] # <<>>}
Next == IF "async" \notin Acts /\ Writing # {}
        THEN LET i == CHOOSE s \in Writing : TRUE IN Flush(i, Len(pend[i])) /\ UNCHANGED crashes
        ELSE (Step /\ UNCHANGED crashes) \/ Ends
Spec == ModelInit /\ [][Next]_modelvars
LedSpec == LedInit /\ [][Next]_modelvars
SettledSpec == SettledInit /\ [][Next]_modelvars

Alike == Permutations(Candidates \ {First}) \cup Permutations((Founders \ Candidates) \ {First}) \cup Permutations(Learners)
=============================================================================
