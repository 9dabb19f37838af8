-------------------------------- MODULE Core --------------------------------
(* Raft as raft_engine/core does it: one action for one thing that Engine.handle
   does with one event.

   Storage is asynchronous.  What a node decides goes into its queue of writes
   (`pend`), reaches the disk later, in order, and what the node promises to
   others (a grant, an acknowledgement) waits there until the writes it rests on
   are durable.  A crash keeps the disk and any beginning of the queue.

   Messages are never lost from `said`, so every one of them may come late, more
   than once, in any order, or not at all.  A request of a leader is not stored:
   whatever part of its log a leader of term t ever had (`reign[t]`), it may have
   sent, and it may arrive now.

   A server is one life of one node (an incarnation); Node names the node, which
   is what a vote names.  A configuration has one voter set or two (joint) and
   learners.  Logs are kept whole, below the purge point too: what a node has
   purged its rules no longer look at.

   Time is not modelled: timeouts, leases and check-quorum decide when something
   is done, never whether it may be.  The constant Without names the one guard
   that is taken out.
   Sources: Raft paper 5, 7; dissertation 4, 9.6, 10.2; raft_engine/core.      *)
EXTENDS Naturals, FiniteSets, Sequences, TLC

CONSTANTS Server, Node,  \* lives of nodes; server -> node
          Start,         \* server -> [vote, log] it begins with
          MaxTerm,
          Without        \* the guard that is taken out; "nothing": none

VARIABLES vote,      \* server -> [t, n, c]: term, node voted for, known to lead
          role,      \* "follower", "pre" (asks whether it would win), "candidate", "leader"
          log,
          committed, \* index
          flushed,   \* index up to which the node knows its log to be durable
          pend,      \* queue of writes: [v, l] is the disk after it, say what may be said then
          disk,      \* [v, l]
          snap,      \* newest snapshot: the entries it stands for; durable as soon as it is there
          purged,    \* index
          said,      \* requests for votes, grants of votes and of pre-votes
          acked,     \* term -> server -> the highest index it acknowledged to that term's leader
          reign,     \* term -> [s, log, com]: who led it, with which log, committed how far
          chosen,    \* index -> [e, by]: the committed entry and the term of the leader that committed it
          asof,      \* server -> [t, n]: n entries were chosen when it first asked whether it would win term t
          broken     \* promises of Raft that were seen broken
vars == <<vote, role, log, committed, flushed, pend, disk, snap, purged, said, acked, reign, chosen, asof, broken>>
Is(guard) == Without # guard

Nobody == "nobody"
NoVote == [t |-> 0, n |-> Nobody, c |-> FALSE]
NoReign == [s |-> Nobody, log |-> <<>>, com |-> 0]
Min(a, b) == IF a < b THEN a ELSE b
Max(a, b) == IF a > b THEN a ELSE b
Least(set) == CHOOSE a \in set : \A b \in set : a <= b
Greatest(set) == CHOOSE a \in set : \A b \in set : a >= b

----------------------------------------------------------------------------
(* Logs and configurations *)

Plain == [v |-> <<>>, l |-> {}]     \* the configuration of an entry that is none
Entry(t, c) == [t |-> t, c |-> c]
TermAt(l, k) == IF k = 0 \/ k > Len(l) THEN 0 ELSE l[k].t
LastId(l) == <<TermAt(l, Len(l)), Len(l)>>
AtLeast(a, b) == a[1] > b[1] \/ (a[1] = b[1] /\ a[2] >= b[2])
Holds(l, k, e) == k <= Len(l) /\ l[k] = e

Configs(l) == {k \in 1..Len(l) : l[k].c.v # <<>>}
\* In force is the newest configuration in the log, committed or not.
ConfigAt(l) == IF Configs(l) = {} THEN 0 ELSE Greatest(Configs(l))
ConfigOf(l) == IF Configs(l) = {} THEN Plain ELSE l[Greatest(Configs(l))].c
IsJoint(c) == Len(c.v) = 2
VotersOf(c) == UNION {c.v[k] : k \in 1..Len(c.v)}
IsBlank(i) == log[i] = <<>>           \* the first entry is a configuration
\* core/quorum.py: has_quorum, highest_agreed
Sets(c) == IF Is("both quorums") THEN {c.v[k] : k \in 1..Len(c.v)} ELSE {c.v[Len(c.v)]}
Counted(set, c) == IF Is("voters only") THEN set ELSE set \cup c.l
Agreed(yes, c) == /\ c.v # <<>>
                  /\ \A set \in Sets(c) : 2 * Cardinality(yes \cap Counted(set, c)) > Cardinality(set)
\* core/election.py: why_not_campaign.  Configurations from the newest committed one on.
MayStand(i) == \E k \in Configs(log[i]) :
                 /\ ~\E m \in Configs(log[i]) : k < m /\ m <= committed[i]
                 /\ i \in VotersOf(log[i][k].c)

----------------------------------------------------------------------------
(* Storage.  RaftState.when_flushed, Engine._do *)

Op(v, l, upto) == [v |-> v, l |-> l, upto |-> upto, say |-> {}]
\* The disk after n of the writes that wait.
Image(i, n) == IF n = 0 THEN disk[i] ELSE [v |-> pend[i][n].v, l |-> pend[i][n].l]
SavedVote(i) == Image(i, Len(pend[i])).v
\* Of what a node acknowledged in a term only the highest matters.
Acks(set) == {m \in set : m.k = "ack"}
AckedWith(set) == [t \in 1..MaxTerm |-> LET news == {m \in Acks(set) : m.t = t} IN
                     IF news = {} THEN acked[t]
                     ELSE [s \in Server |-> LET his == {m.upto : m \in {n \in news : n.from = s}} IN
                             IF his = {} THEN acked[t][s] ELSE Max(acked[t][s], Greatest(his))]]
Say(set) == /\ said' = said \cup {m \in set : m.k # "ack"}
            /\ acked' = IF Acks(set) = {} THEN acked ELSE AckedWith(set)
\* i's queue becomes `queue`; `promise` is made when all of it is durable, or now.
Promise(i, queue, promise, now) ==
  /\ pend' = [pend EXCEPT ![i] = IF now \/ queue = <<>> THEN queue
                                 ELSE [queue EXCEPT ![Len(queue)].say = @ \cup promise]]
  /\ Say(IF now \/ queue = <<>> THEN promise ELSE {})
Forget(queue, after) == IF Is("forgotten flushes") THEN [k \in 1..Len(queue) |-> [queue[k] EXCEPT !.upto = Min(@, after)]]
                        ELSE queue

\* The first n writes are durable, and the core hears of it.
Flush(i, n) ==
  /\ n \in 1..Len(pend[i])
  /\ disk' = [disk EXCEPT ![i] = Image(i, n)]
  /\ flushed' = [flushed EXCEPT ![i] = Max(@, Greatest({pend[i][k].upto : k \in 1..n}))]
  /\ Say(UNION {pend[i][k].say : k \in 1..n})
  /\ pend' = [pend EXCEPT ![i] = SubSeq(@, n + 1, Len(@))]
  /\ UNCHANGED <<vote, role, log, committed, snap, purged, reign, chosen, asof, broken>>

\* What `restore_node` makes of a log: one that does not go through the snapshot's end is reset to it.
Continues(l, s) == Len(s) <= Len(l) /\ (s = <<>> \/ l[Len(s)].t = s[Len(s)].t)
\* i ends and is back.  Votes are synced at once and the log later, so v >= n; of the next write, an append, `part` entries
\* have come through.
Crash(i, n, v, part) ==
  /\ n \in 0..Len(pend[i]) /\ v \in n..Len(pend[i])
  /\ part > 0 => n < Len(pend[i]) /\ part < Len(Image(i, n + 1).l) - Len(Image(i, n).l)
  /\ LET l == IF part = 0 THEN Image(i, n).l ELSE SubSeq(Image(i, n + 1).l, 1, Len(Image(i, n).l) + part)
         found == IF Continues(l, snap[i]) THEN l ELSE snap[i]
     IN  /\ disk' = [disk EXCEPT ![i] = [v |-> Image(i, v).v, l |-> found]]
         /\ vote' = [vote EXCEPT ![i] = Image(i, v).v]
         /\ log' = [log EXCEPT ![i] = found]
         /\ flushed' = [flushed EXCEPT ![i] = Len(found)]
  /\ committed' = [committed EXCEPT ![i] = Len(snap[i])]
  /\ role' = [role EXCEPT ![i] = "follower"]
  /\ pend' = [pend EXCEPT ![i] = <<>>]
  /\ UNCHANGED <<snap, said, acked, reign, chosen, asof, broken>>

----------------------------------------------------------------------------
(* Votes.  core/voting.py, core/election.py *)

\* core/election.py: campaign(pre_vote=True)
PreCampaign(i) ==
  /\ role[i] # "leader" /\ MayStand(i)
  /\ role' = [role EXCEPT ![i] = "pre"]
  /\ asof' = [asof EXCEPT ![i] = IF @.t = vote[i].t + 1 THEN @ ELSE [t |-> vote[i].t + 1, n |-> Len(chosen)]]
  /\ UNCHANGED <<vote, log, committed, flushed, pend, disk, snap, purged, said, acked, reign, chosen, broken>>

\* core/voting.py: why_not_grant, asked by somebody who only wants to know
PreGrant(j, i, t, last) ==
  /\ i # j /\ ~IsBlank(j) /\ t > vote[j].t /\ AtLeast(last, LastId(log[j]))
  /\ said' = said \cup {[k |-> "pre", t |-> t, from |-> j, to |-> i]}
  /\ UNCHANGED <<vote, role, log, committed, flushed, pend, disk, snap, purged, acked, reign, chosen, asof, broken>>

PreGranted(i, t) == {i} \cup {m.from : m \in {n \in said : n.k = "pre" /\ n.t = t /\ n.to = i}}
WouldWin(i, t) == role[i] = "pre" /\ Agreed(PreGranted(i, t), ConfigOf(log[i]))

\* core/election.py: campaign(pre_vote=False).  The own vote counts when it is durable.
Campaign(i, t) ==
  /\ role[i] # "leader" /\ MayStand(i) /\ t > vote[i].t /\ t <= MaxTerm
  /\ LET mine == [t |-> t, n |-> Node[i], c |-> FALSE]
         ask == [k |-> "ask", t |-> t, from |-> i, last |-> LastId(log[i])]
         own == [k |-> "grant", t |-> t, from |-> i, to |-> i, last |-> LastId(log[i])]
     IN  /\ vote' = [vote EXCEPT ![i] = mine]
         /\ pend' = [pend EXCEPT ![i] = Append(@, [Op(mine, log[i], 0) EXCEPT !.say = IF Is("own vote durable") THEN {own} ELSE {}])]
         /\ said' = said \cup {ask} \cup (IF Is("own vote durable") THEN {} ELSE {own})
  /\ role' = [role EXCEPT ![i] = "candidate"]
  /\ UNCHANGED <<log, committed, flushed, disk, snap, purged, acked, reign, chosen, asof, broken>>

\* core/election.py: on_vote_request.  A refused request changes nothing.
Grant(j, m) ==
  /\ m \in said /\ m.k = "ask" /\ m.from # j
  /\ ~IsBlank(j)
  /\ \/ m.t > vote[j].t
     \/ m.t = vote[j].t /\ ~vote[j].c /\ (Is("one vote") => vote[j].n \in {Nobody, Node[m.from]})
  /\ Is("log compared") => AtLeast(m.last, LastId(log[j]))
  /\ LET given == [t |-> m.t, n |-> Node[m.from], c |-> FALSE]
         grant == [k |-> "grant", t |-> m.t, from |-> j, to |-> m.from, last |-> LastId(log[j])]
     IN  /\ vote' = [vote EXCEPT ![j] = given]
         /\ Promise(j, pend[j] \o (IF given = vote[j] THEN <<>> ELSE <<Op(given, log[j], 0)>>), {grant}, ~Is("grant durable"))
  /\ role' = [role EXCEPT ![j] = "follower"]
  /\ UNCHANGED <<log, committed, flushed, disk, snap, purged, reign, chosen, asof, broken>>

\* A grant counts if the voter would give it for the log that the candidate has by now: it may have been given for the log of
\* a candidacy in the same term that a crash has undone.
Granted(i) == {m.from : m \in {n \in said : /\ n.k = "grant" /\ n.t = vote[i].t /\ n.to = i
                                            /\ Is("grant fits") /\ Is("log compared") => AtLeast(LastId(log[i]), n.last)}}

\* core/election.py: _establish.  Its term begins with an empty entry.
Win(i) ==
  /\ role[i] = "candidate"
  /\ i \in Granted(i) /\ Agreed(Granted(i), ConfigOf(log[i]))
  /\ LET t == vote[i].t
         l == Append(log[i], Entry(t, Plain))
     IN  /\ log' = [log EXCEPT ![i] = l]
         /\ pend' = [pend EXCEPT ![i] = Append(@, Op(SavedVote(i), l, Len(l)))]
         /\ reign' = [reign EXCEPT ![t] = [s |-> i, log |-> l, com |-> committed[i]]]
         /\ broken' = IF reign[t].s = Nobody THEN broken ELSE broken \cup {"ElectionSafety"}
  /\ vote' = [vote EXCEPT ![i].c = TRUE]
  /\ role' = [role EXCEPT ![i] = "leader"]
  /\ UNCHANGED <<committed, flushed, disk, snap, purged, said, acked, chosen, asof>>

\* core/voting.py: adopt_higher_term.  Somebody has answered from term t, which is durable there.
AdoptTerm(i, t) ==
  /\ t > vote[i].t /\ \E j \in Server : disk[j].v.t >= t
  /\ LET v == [t |-> t, n |-> Nobody, c |-> FALSE]
     IN  /\ vote' = [vote EXCEPT ![i] = v]
         /\ pend' = [pend EXCEPT ![i] = Append(@, Op(v, log[i], 0))]
  /\ role' = [role EXCEPT ![i] = "follower"]
  /\ UNCHANGED <<log, committed, flushed, disk, snap, purged, said, acked, reign, chosen, asof, broken>>

\* core/voting.py: step_down, drop_candidacy
StepDown(i) ==
  /\ role[i] # "follower"
  /\ role' = [role EXCEPT ![i] = "follower"]
  /\ UNCHANGED <<vote, log, committed, flushed, pend, disk, snap, purged, said, acked, reign, chosen, asof, broken>>

----------------------------------------------------------------------------
(* Replication.  core/replication.py, core/following.py, core/committing.py *)

\* core/replication.py: append_as_leader
AppendAsLeader(i, entries) ==
  /\ role[i] = "leader"
  /\ LET l == log[i] \o entries
     IN  /\ log' = [log EXCEPT ![i] = l]
         /\ pend' = [pend EXCEPT ![i] = Append(@, Op(SavedVote(i), l, Len(l)))]
         /\ reign' = [reign EXCEPT ![vote[i].t].log = l]
  /\ UNCHANGED <<vote, role, committed, flushed, disk, snap, purged, said, acked, chosen, asof, broken>>
Propose(i) == AppendAsLeader(i, <<Entry(vote[i].t, Plain)>>)

\* core/voting.py: adopt_leader.  That a term has this leader need not be durable, the term must be.
MayFollow(j, t) == /\ reign[t].s # Nobody /\ reign[t].s # j /\ t >= vote[j].t
                   /\ (t = vote[j].t /\ vote[j].c) => vote[j].n = Node[reign[t].s]
Following(t) == [t |-> t, n |-> Node[reign[t].s], c |-> TRUE]
SavesFollowing(j, t) == Following(t) # vote[j] /\ (t > disk[j].v.t \/ vote[j].t < t)
VoteWrites(j, t) == IF SavesFollowing(j, t) THEN <<Op(Following(t), log[j], 0)>> ELSE <<>>
SavedFollowing(j, t) == IF SavesFollowing(j, t) THEN Following(t) ELSE SavedVote(j)

\* core/following.py: on_append_request with the entries prev + 1 .. upto of that leader's log (prev = upto: a heartbeat)
HandleAppend(j, t, prev, upto, com) ==
  /\ MayFollow(j, t) /\ prev <= upto /\ upto <= Len(reign[t].log) /\ com <= reign[t].com
  /\ Is("commit bound") => com <= upto
  /\ vote' = [vote EXCEPT ![j] = Following(t)]
  /\ role' = [role EXCEPT ![j] = "follower"]
  /\ LET theirs == reign[t].log
         agrees == \/ prev < purged[j]
                   \/ prev <= Len(log[j]) /\ TermAt(log[j], prev) = TermAt(theirs, prev)
                   \/ ~Is("consistency check") /\ prev <= Len(log[j])
         new == {k \in prev + 1..upto : \/ ~Is("conflicts only")
                                        \/ k > purged[j] /\ (k > Len(log[j]) \/ log[j][k].t # theirs[k].t)}
         after == Least(new) - 1
         cuts == new # {} /\ after < Len(log[j])
         kept == SubSeq(log[j], 1, after)
         l == IF new = {} THEN log[j] ELSE kept \o SubSeq(theirs, after + 1, upto)
         durable == IF cuts THEN Min(flushed[j], after) ELSE flushed[j]
         saved == SavedFollowing(j, t)
         queue == (IF cuts THEN Forget(pend[j], after) ELSE pend[j]) \o VoteWrites(j, t)
                  \o (IF cuts THEN <<Op(saved, kept, 0)>> ELSE <<>>)
                  \o (IF new = {} THEN <<>> ELSE <<Op(saved, l, Len(l))>>)
         matching == Max(upto, purged[j])
         ack == [k |-> "ack", t |-> t, from |-> j, upto |-> matching]
         now == \/ matching <= durable /\ (Is("term durable") => disk[j].v.t = t)
                \/ ~Is("entries durable")
     IN  IF agrees THEN
           /\ log' = [log EXCEPT ![j] = l]
           /\ flushed' = [flushed EXCEPT ![j] = durable]
           /\ committed' = [committed EXCEPT ![j] = Max(@, Min(com, IF Is("commit bound") THEN matching ELSE Len(l)))]
           /\ broken' = IF cuts /\ after < committed[j] THEN broken \cup {"CommittedStays"} ELSE broken
           /\ Promise(j, queue, {ack}, now)
         ELSE
           /\ pend' = [pend EXCEPT ![j] = @ \o VoteWrites(j, t)]
           /\ UNCHANGED <<log, flushed, committed, said, acked, broken>>
  /\ UNCHANGED <<disk, snap, purged, reign, chosen, asof>>

\* core/replication.py: advance_commit.  The own copy counts when it is durable, like everybody's.
Holders(i, k) ==
  {j \in Server : acked[vote[i].t][j] >= k}
  \cup (IF flushed[i] >= k \/ ~Is("own copy durable") THEN {i} ELSE {})
OnDisk(k, e) == {j \in Server : Holds(disk[j].l, k, e) \/ Len(snap[j]) >= k}
Commit(i, k) ==
  /\ role[i] = "leader" /\ k \in committed[i] + 1..Len(log[i])
  /\ Is("own term") => log[i][k].t = vote[i].t
  /\ Agreed(Holders(i, k), ConfigOf(log[i]))
  /\ committed' = [committed EXCEPT ![i] = k]
  /\ reign' = [reign EXCEPT ![vote[i].t].com = k]
  /\ chosen' = chosen \o [m \in 1..(IF k > Len(chosen) THEN k - Len(chosen) ELSE 0) |->
                            [e |-> log[i][Len(chosen) + m], by |-> vote[i].t]]
  /\ broken' = broken
       \cup (IF \E m \in 1..Min(k, Len(chosen)) : chosen[m].e # log[i][m] THEN {"CommittedOnce"} ELSE {})
       \cup (IF Agreed(OnDisk(k, log[i][k]), ConfigOf(log[i])) THEN {} ELSE {"CommitOnDisks"})
  /\ UNCHANGED <<vote, role, log, flushed, pend, disk, snap, purged, said, acked, asof>>

----------------------------------------------------------------------------
(* Configurations.  core/membership_change.py *)

FirstOwn(i) == Least({k \in 1..Len(log[i]) : log[i][k].t = vote[i].t})
OwnCommitted(i) == Is("own entry first") => committed[i] >= FirstOwn(i)
Settled(i) == Is("one at a time") => ConfigAt(log[i]) <= committed[i]
HasSomething(i, j) == acked[vote[i].t][j] > 0

\* on_change_requested, _let_in: learners at once, voters through a joint configuration
MayChangeTo(i, new) ==
  LET now == ConfigOf(log[i])
      last == now.v[Len(now.v)]
      wanted == new.v[Len(new.v)]
  IN  /\ role[i] = "leader" /\ OwnCommitted(i) /\ Settled(i)
      /\ ~IsJoint(now) \/ ~Is("one at a time")
      /\ IF wanted = last THEN new.v = <<last>>
         ELSE /\ new.v = IF Is("joint") THEN <<last, wanted>> ELSE <<wanted>>
              /\ wanted # {} /\ wanted \subseteq last \cup now.l
              /\ \A j \in wanted \ last : HasSomething(i, j)
      /\ new # now
\* on_progress: a committed joint configuration is left
MayLeaveTo(i, new) ==
  LET now == ConfigOf(log[i])
  IN  /\ role[i] = "leader" /\ OwnCommitted(i) /\ IsJoint(now)
      /\ Is("joint committed") => ConfigAt(log[i]) <= committed[i]
      /\ new = [v |-> <<now.v[2]>>, l |-> now.l]
AppendConfig(i, new) ==
  /\ MayChangeTo(i, new) \/ MayLeaveTo(i, new)
  /\ AppendAsLeader(i, <<Entry(vote[i].t, new)>>)

----------------------------------------------------------------------------
(* Snapshots.  core/snapshotting.py, core/purging.py, core/shipping.py, core/following.py *)

\* on_snapshot_built: what was applied is committed and durable here
BuildSnapshot(i, k) ==
  /\ k \in Len(snap[i]) + 1..Min(committed[i], flushed[i])
  /\ snap' = [snap EXCEPT ![i] = SubSeq(log[i], 1, k)]
  /\ UNCHANGED <<vote, role, log, committed, flushed, pend, disk, purged, said, acked, reign, chosen, asof, broken>>

\* core/purging.py: resume
Purge(i, k) ==
  /\ k \in purged[i] + 1..Len(log[i])
  /\ Is("snapshot covers") => k <= Len(snap[i])
  /\ purged' = [purged EXCEPT ![i] = k]
  /\ pend' = [pend EXCEPT ![i] = Append(@, Op(SavedVote(i), log[i], 0))]
  /\ UNCHANGED <<vote, role, log, committed, flushed, disk, snap, said, acked, reign, chosen, asof, broken>>

\* on_snapshot_chunk: a snapshot of what is committed here is answered, a newer one is only stored
HandleChunk(j, t, k) ==
  /\ MayFollow(j, t) /\ k <= reign[t].com
  /\ vote' = [vote EXCEPT ![j] = Following(t)]
  /\ role' = [role EXCEPT ![j] = "follower"]
  /\ Promise(j, pend[j] \o VoteWrites(j, t),
             IF k <= committed[j] THEN {[k |-> "ack", t |-> t, from |-> j, upto |-> k]} ELSE {}, FALSE)
  /\ UNCHANGED <<log, committed, flushed, disk, snap, purged, reign, chosen, asof, broken>>

\* on_snapshot_installed.  The term it came in was durable when the state was replaced (InstallWhenFlushed).
Install(j, t, k) ==
  /\ reign[t].s \notin {Nobody, j} /\ k <= reign[t].com /\ k > Len(snap[j])
  /\ vote[j].t >= t /\ (Is("term before snapshot") => disk[j].v.t >= t)
  /\ LET new == SubSeq(reign[t].log, 1, k)
         has == Is("suffix kept") /\ k <= Len(log[j]) /\ log[j][k].t = new[k].t
         l == IF has THEN log[j] ELSE new
         queue == (IF has THEN pend[j] ELSE Forget(pend[j], k)) \o <<Op(SavedVote(j), l, 0)>>
     IN  /\ snap' = [snap EXCEPT ![j] = new]
         /\ log' = [log EXCEPT ![j] = l]
         /\ committed' = [committed EXCEPT ![j] = Max(@, k)]
         /\ flushed' = [flushed EXCEPT ![j] = IF has THEN Max(@, k) ELSE k]
         /\ purged' = [purged EXCEPT ![j] = Max(@, k)]
         /\ Promise(j, queue, IF vote[j].t = t THEN {[k |-> "ack", t |-> t, from |-> j, upto |-> k]} ELSE {}, FALSE)
  /\ UNCHANGED <<vote, role, disk, reign, chosen, asof, broken>>

----------------------------------------------------------------------------
InitNothing ==
  /\ pend = [s \in Server |-> <<>>]
  /\ snap = [s \in Server |-> <<>>] /\ purged = [s \in Server |-> 0]
  /\ said = {} /\ broken = {}
  /\ asof = [s \in Server |-> [t |-> 0, n |-> 0]]
InitUncommitted ==
  /\ committed = [s \in Server |-> 0]
  /\ acked = [t \in 1..MaxTerm |-> [s \in Server |-> 0]]
  /\ chosen = <<>>
Init ==
  /\ vote = [s \in Server |-> Start[s].vote]
  /\ log = [s \in Server |-> Start[s].log]
  /\ disk = [s \in Server |-> [v |-> Start[s].vote, l |-> Start[s].log]]
  /\ flushed = [s \in Server |-> Len(Start[s].log)]
  /\ role = [s \in Server |-> "follower"]
  /\ reign = [t \in 1..MaxTerm |-> NoReign]
  /\ InitUncommitted /\ InitNothing

----------------------------------------------------------------------------
(* What must hold *)

ElectionSafety == "ElectionSafety" \notin broken
\* The term of the commit decides, not the entry's: a deposed leader may lack an entry of an older term that a later leader
\* committed.
LeaderCompleteness == \A i \in Server : role[i] = "leader" =>
  \A k \in 1..Len(chosen) : chosen[k].by < vote[i].t => Holds(log[i], k, chosen[k].e)
LogMatching == \A i, j \in Server : \A k \in 1..Min(Len(log[i]), Len(log[j])) :
  log[i][k].t = log[j][k].t => SubSeq(log[i], 1, k) = SubSeq(log[j], 1, k)
StateMachineSafety == \A i \in Server : committed[i] <= Len(chosen) /\ \A k \in 1..committed[i] : Holds(log[i], k, chosen[k].e)
CommittedOnce == "CommittedOnce" \notin broken
CommittedStays == "CommittedStays" \notin broken
CommitOnDisks == "CommitOnDisks" \notin broken
SnapshotSafety == \A i \in Server : \A k \in 1..Len(snap[i]) : k <= Len(chosen) /\ snap[i][k] = chosen[k].e
\* Nothing promised is forgotten: not even by a crash at this moment.
VotesKept == \A m \in said : m.k = "grant" =>
  \/ disk[m.from].v.t > m.t
  \/ disk[m.from].v.t = m.t /\ (disk[m.from].v.n = Node[m.to] \/ disk[m.from].v.c)
TermsKept == \A t \in 1..MaxTerm, s \in Server : acked[t][s] > 0 => disk[s].v.t >= t
OneChange == \A i \in Server : role[i] = "leader" =>
  Cardinality({k \in Configs(log[i]) : k > Max(committed[i], FirstOwn(i) - 1)}) <= 1
\* core/invariants.py
Order == \A i \in Server : /\ purged[i] <= Len(snap[i]) /\ Len(snap[i]) <= committed[i] /\ committed[i] <= Len(log[i])
                           /\ flushed[i] <= Len(log[i]) /\ TermAt(log[i], Len(log[i])) <= vote[i].t
\* Pre-vote: whoever raises a term holds everything that was committed when it first asked for that term.
StandsWithAll == \A i \in Server : (role[i] = "candidate" /\ asof[i].t = vote[i].t) =>
  \A k \in 1..asof[i].n : Holds(log[i], k, chosen[k].e)
=============================================================================
