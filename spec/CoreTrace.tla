----------------------------- MODULE CoreTrace -----------------------------
(* Is a run of the simulator a behaviour of Core?

   TraceData is written by scripts/traces.py: Runs, each with the servers that
   its cluster began with and its lines (raft_engine/testing/sim_trace.py).  A
   line names the step, so there is nothing to guess but what a crash has left;
   the last line of an event says what the node is like afterwards, and that
   must be what Core makes of it.  A run is accepted when its last line is
   reached; TLC then prints it.                                               *)
EXTENDS Core, TraceData
VARIABLES run, at
tracevars == <<vars, run, at>>

Lines == Runs[run].lines
TraceInit ==
  /\ run \in DOMAIN Runs /\ at = 1
  /\ log = [s \in Server |-> IF s \in Runs[run].founders THEN <<Entry(0, Runs[run].first)>> ELSE <<>>]
  /\ vote = [s \in Server |-> NoVote]
  /\ disk = [s \in Server |-> [v |-> NoVote, l |-> log[s]]]
  /\ flushed = [s \in Server |-> Len(log[s])]
  /\ role = [s \in Server |-> "follower"]
  /\ reign = [t \in 1..MaxTerm |-> NoReign]
  /\ InitUncommitted /\ InitNothing

\* What a node that starts again finds beyond its purge point.
RunTerm(runs, k) == runs[Greatest({r \in 1..Len(runs) : runs[r][1] <= k})][2]
Found(l, runs, after) == \A k \in after + 1..Len(l) : l[k].t = RunTerm(runs, k)
Restarts(i, purge, runs, z) ==
  /\ \E n \in 0..Len(pend[i]) : \E v \in n..Len(pend[i]) :
       /\ <<Image(i, v).v.t, Image(i, v).v.n, Image(i, v).v.c>> = <<z[1], z[2], z[3]>>
       /\ \E part \in IF n < Len(pend[i]) THEN 0..Max(1, Len(Image(i, n + 1).l) - Len(Image(i, n).l)) - 1 ELSE {0} :
            /\ Crash(i, n, v, part)
            /\ Len(log'[i]) = z[5] /\ Found(log'[i], runs, purge)
  /\ purge <= Len(snap[i])
  /\ purged' = [purged EXCEPT ![i] = purge]

Entries(list) == [k \in 1..Len(list) |-> Entry(list[k][1], IF list[k][2] = 0 THEN Plain ELSE Configurations[list[k][2]])]
Step(a, s, n, o, x, z) ==
  CASE a = "Flush" -> Flush(s, n[1])
    [] a = "Append" -> /\ TermAt(reign[n[1]].log, n[2]) = n[3]
                       /\ HandleAppend(s, n[1], n[2], n[4], n[5])
    [] a = "Lead" -> IF Len(x) = 1 /\ x[1][2] # 0 THEN AppendConfig(s, Configurations[x[1][2]]) /\ x[1][1] = vote[s].t
                     ELSE AppendAsLeader(s, Entries(x)) /\ \A k \in 1..Len(x) : x[k][2] = 0 /\ x[k][1] = vote[s].t
    [] a = "Commit" -> Commit(s, n[1])
    [] a = "PreCampaign" -> PreCampaign(s)
    [] a = "PreGrant" -> PreGrant(s, o, n[1], <<n[2], n[3]>>)
    [] a = "Campaign" -> (n[2] = 1 => WouldWin(s, n[1])) /\ Campaign(s, n[1])
    [] a = "Grant" -> \E m \in said : /\ m.k = "ask" /\ m.t = n[1] /\ m.from = o /\ m.last = <<n[2], n[3]>>
                                      /\ Grant(s, m)
    [] a = "Win" -> Win(s)
    [] a = "AdoptTerm" -> AdoptTerm(s, n[1])
    [] a = "StepDown" -> StepDown(s)
    [] a = "BuildSnapshot" -> BuildSnapshot(s, n[1])
    [] a = "Purge" -> Purge(s, n[1])
    [] a = "Chunk" -> HandleChunk(s, n[1], n[2])
    [] a = "Install" -> Install(s, n[1], n[2])
    [] a = "Crash" -> Restarts(s, n[1], x, z)
    [] OTHER -> FALSE
\* What the line says the node is like is what it is like now.
Like(s, z) ==
  /\ vote'[s] = [t |-> z[1], n |-> z[2], c |-> z[3]]
  /\ role'[s] = z[4]
  /\ Len(log'[s]) = z[5] /\ TermAt(log'[s], z[5]) = z[6]
  /\ committed'[s] = z[7] /\ flushed'[s] = z[8]
  /\ Len(snap'[s]) = z[9] /\ purged'[s] = z[10]
  /\ ConfigAt(log'[s]) = z[11]
  /\ Len(pend'[s]) = z[12]

TraceNext ==
  /\ at <= Len(Lines)
  /\ LET line == Lines[at] IN
       /\ Step(line.a, line.s, line.n, line.o, line.x, line.z)
       /\ IF line.z = <<>> THEN TRUE ELSE Like(line.s, line.z)
  /\ at' = at + 1 /\ UNCHANGED run
  /\ at = Len(Lines) => PrintT(<<"accepted", run>>)
TraceSpec == TraceInit /\ [][TraceNext]_tracevars

Reached == <<run, at>>
NothingBroken == broken = {}
=============================================================================
