------------------------------ MODULE Replicas ------------------------------
(* Raft without messages: the common ground of the models of a lost disk.

   Requests are not modelled: a candidate is granted, and a follower brought
   up to date, straight from the state of the one who asks.  Answers are: a
   grant or an acknowledgement, once given, stays in a set for ever and may be
   counted at any later time.  That is what matters here: an answer that a node
   gave before it lost its disk may be counted after.

   Storage is synchronous in this module; Raft.tla is about the other kind.

   A server is one life of one node.  A voter set is a set of servers, and a
   configuration is a set of one or two voter sets (two: joint).  An entry has
   a term and, if it is a configuration, that configuration.

   Sources: Raft paper 5; dissertation 4.3.                                   *)
EXTENDS Naturals, FiniteSets, Sequences, TLC

CONSTANTS Server,     \* lives of nodes
          Founders,   \* the voters of the first configuration
          Candidates, \* who may campaign (a smaller set makes a directed search)
          Directed,   \* a directed search: First leads term 1, only Rival campaigns after
          First, Rival,
          MaxTerm, MaxLen

VARIABLES term, vote,  \* hard state
          log,
          role,
          granted,     \* candidate -> who granted its present term
          acks,        \* acknowledgements ever given
          committed,   \* [at, entry, by]: by is the term of the leader that committed it
          leaders      \* <<term, server>> of every election won
base == <<term, vote, log, role, granted, acks, committed, leaders>>

Nobody == "nobody"
Plain == {}            \* the configuration of an entry that is none

Majority(yes, voters) == 2 * Cardinality(yes \cap voters) > Cardinality(voters)
Agreed(yes, config) == \A voters \in config : Majority(yes, voters)

LastTerm(l) == IF l = <<>> THEN 0 ELSE l[Len(l)].t
IsPrefix(a, b) == Len(a) <= Len(b) /\ \A k \in 1..Len(a) : a[k] = b[k]
UpToDate(a, b) == \/ LastTerm(a) > LastTerm(b)
                  \/ LastTerm(a) = LastTerm(b) /\ Len(a) >= Len(b)

\* The configuration in force is the newest one in the log, committed or not.
ConfigOf(l) == LET at == {k \in 1..Len(l) : l[k].c # Plain}
               IN  IF at = {} THEN {Founders} ELSE l[CHOOSE k \in at : \A m \in at : m <= k].c
Voters(config) == UNION config

Entry(t) == [t |-> t, c |-> Plain]
ConfigEntry(t, config) == [t |-> t, c |-> config]

\* A directed search begins when First has been elected by all.
Old == IF Directed THEN 1 ELSE 0
BaseInit == /\ term = [s \in Server |-> Old]
            /\ vote = [s \in Server |-> IF Directed THEN First ELSE Nobody]
            /\ log = [s \in Server |-> <<>>]
            /\ role = [s \in Server |-> IF Directed /\ s = First THEN "leader" ELSE "follower"]
            /\ granted = [s \in Server |-> {}]
            /\ acks = {} /\ committed = {}
            /\ leaders = IF Directed THEN {<<1, First>>} ELSE {}

----------------------------------------------------------------------------
(* Every action names the server that acts first. *)

MayCampaign(i) ==
  /\ i \in Candidates /\ role[i] # "leader" /\ term[i] < MaxTerm
  /\ Directed => i = Rival

Campaign(i) ==
  /\ MayCampaign(i)
  /\ term' = [term EXCEPT ![i] = @ + 1]
  /\ vote' = [vote EXCEPT ![i] = i]
  /\ role' = [role EXCEPT ![i] = "candidate"]
  /\ granted' = [granted EXCEPT ![i] = {i}]
  /\ UNCHANGED <<log, acks, committed, leaders>>

\* j grants i.  A rival that skips terms (it heard of them) is Campaign twice.
Grant(j, i) ==
  /\ i # j /\ role[i] = "candidate" /\ j \notin granted[i]
  /\ \/ term[j] < term[i]
     \/ term[j] = term[i] /\ vote[j] \in {Nobody, i}
  /\ UpToDate(log[i], log[j])
  /\ term' = [term EXCEPT ![j] = term[i]]
  /\ vote' = [vote EXCEPT ![j] = i]
  /\ role' = [role EXCEPT ![j] = IF term[j] < term[i] THEN "follower" ELSE @]
  /\ granted' = [granted EXCEPT ![i] = @ \cup {j}, ![j] = IF term[j] < term[i] THEN {} ELSE @]
  /\ UNCHANGED <<log, acks, committed, leaders>>

\* i wins with those of its grants that count.
Win(i, counted) ==
  /\ role[i] = "candidate"
  /\ Agreed(counted, ConfigOf(log[i]))
  /\ role' = [role EXCEPT ![i] = "leader"]
  /\ leaders' = leaders \cup {<<term[i], i>>}
  /\ UNCHANGED <<term, vote, log, granted, acks, committed>>

Append1(i, entry) ==
  /\ role[i] = "leader" /\ Len(log[i]) < MaxLen
  /\ log' = [log EXCEPT ![i] = Append(@, entry)]
  /\ UNCHANGED <<term, vote, role, granted, acks, committed, leaders>>
Propose(i) == Append1(i, Entry(term[i]))

\* j takes over the leader i's log up to n and acknowledges it; `mark` is what
\* the model at hand wants to remember of the acknowledgement.
Replicate(i, j, n, mark) ==
  /\ i # j /\ role[i] = "leader" /\ n \in 1..Len(log[i])
  /\ term[j] <= term[i] /\ ~(role[j] = "leader" /\ term[j] = term[i])
  /\ LET sent == SubSeq(log[i], 1, n) IN
       log' = [log EXCEPT ![j] = IF IsPrefix(sent, @) THEN @ ELSE sent]
  /\ term' = [term EXCEPT ![j] = term[i]]
  /\ vote' = [vote EXCEPT ![j] = IF term[j] < term[i] THEN Nobody ELSE @]
  /\ role' = [role EXCEPT ![j] = "follower"]
  /\ granted' = [granted EXCEPT ![j] = {}]
  /\ acks' = acks \cup {[to |-> i, t |-> term[i], from |-> j, upto |-> n, mark |-> mark]}
  /\ UNCHANGED <<committed, leaders>>

\* i commits up to k by those acknowledgements that count.
Commit(i, k, counted) ==
  /\ role[i] = "leader" /\ k \in 1..Len(log[i]) /\ log[i][k].t = term[i]
  /\ LET holders == {i} \cup {a.from : a \in {b \in counted : b.to = i /\ b.t = term[i] /\ b.upto >= k}}
     IN  Agreed(holders, ConfigOf(log[i]))
  /\ LET news == {m \in 1..k : ~\E c \in committed : c.at = m /\ c.entry = log[i][m]} IN
       /\ news # {}
       /\ committed' = committed \cup {[at |-> m, entry |-> log[i][m], by |-> term[i]] : m \in news}
  /\ UNCHANGED <<term, vote, log, role, granted, acks, leaders>>

IsCommitted(i, k) == \E c \in committed : c.at = k /\ c.entry = log[i][k]
OwnTermCommitted(i) == \E c \in committed : c.entry.t = term[i]

----------------------------------------------------------------------------
ElectionSafety == \A a, b \in leaders : a[1] = b[1] => a[2] = b[2]
\* The term of the commit decides, not the entry's: a deposed leader may lack an
\* entry of an older term that a later leader committed.
LeaderCompleteness == \A i \in Server : role[i] = "leader" =>
  \A c \in committed : c.by < term[i] => c.at <= Len(log[i]) /\ log[i][c.at] = c.entry
CommittedOnce == \A a, b \in committed : a.at = b.at => a.entry = b.entry
=============================================================================
