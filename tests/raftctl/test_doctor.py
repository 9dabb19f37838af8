"""doctor: each rule finds what it is for, names what mends it, and is silent when all is well."""

from __future__ import annotations

import time

import httpx
import msgspec
import pytest

from raftctl.commands import doctor as command
from raftctl.doctor import Clock, Facts, examine
from raftctl.model import Address, Membership, NodeStatus
from raftctl.survey import NodeReport, Survey
from tests.raftctl.fake_cluster import log_id, problem

REFUSED = httpx.ConnectError("[Errno 111] Connection refused")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(command, "_LOOK_AGAIN_S", 0.0)


def found(raftctl, code=10):
    return {one["rule"]: one for one in raftctl("doctor -o json", code=code).data["findings"]}


def test_a_cluster_that_is_well_has_no_findings_and_exits_with_0(cluster, raftctl):
    data = raftctl("doctor -o json").data
    assert (data["findings"], data["worst"], len(data["rules"])) == ([], None, 28)
    assert "nothing is wrong" in raftctl("doctor").out
    assert [] == cluster.mutations


def test_all_rules_are_listed_when_asked_for(cluster, raftctl):
    assert "ok    quorum" in raftctl("doctor -o wide").out


def learner(cluster):
    cluster.learners = [4]
    cluster.nodes[4] = cluster._status(4)
    cluster.lead(1)


def four_voters(cluster):
    cluster.voters = [1, 2, 3, 4]
    cluster.nodes[4] = cluster._status(4)
    cluster.lead(1)


def two_leaders(cluster):
    cluster.nodes[3] |= {"state": "leader", "term": 1, "leader": 3}


def joint(cluster):
    for status in cluster.nodes.values():
        status["membership"] = {**status["membership"], "configs": [[1, 2, 3], [1, 2]], "committed": False}


def blank(cluster, node=3):
    cluster.nodes[node].update(incarnation="f" * 32, birth="blank")
    cluster.nodes[node]["membership"] = {"configs": [], "learners": [], "nodes": {}, "log_id": None, "committed": False}


CASES = {
    "timers": (
        lambda c: c.nodes[2]["runtime_config"].update(enable_elect=False),
        "runtime-config set enable_elect=on --node 2",
    ),
    "armed": (
        lambda c: c.target(3).update(revert_armed=True, revert_armed_ms_left=9000),
        "allow-next-revert --to 3 --no-allow",
    ),
    "recovering": (lambda c: c.nodes[3].update(recovering={"until": log_id(90), "reason": "wiped"}), "health --wait"),
    "engine": (lambda c: c.nodes[3].update(state="shutdown"), "start-raft"),
    "alarms": (
        lambda c: c.nodes[1].update(alarms=[{"code": "x", "detail": "d", "hint": "raftctl y", "node": 3}]),
        "raftctl y",
    ),
    "lag": (lambda c: c.target(3).update(lag=100_000), "snapshot is sent"),
    "needs-snapshot": (
        lambda c: (c.nodes[1].update(purged=log_id(50)), c.target(3).update(matching=log_id(10))),
        "sent a snapshot",
    ),
    "applying": (lambda c: c.nodes[2].update(committed=log_id(90_000)), "raftctl top"),
    "disk": (lambda c: c.nodes[2].update(free_bytes=10**8, kv={"keys": 1, "bytes": 10**8}), "purge-log --upto 50 --node 2"),
    "life": (blank, "rejoin-node 3 --blank"),
    "stale-leader": (two_leaders, "watch --node 3"),
    "config-settled": (joint, "finishes the change"),
    "answers": (lambda c: c.down.update({3: REFUSED}), "start its process"),
    "tolerance": (lambda c: c.down.update({3: REFUSED}), "bring back node 3"),
    "strangers": (lambda c: c.nodes[1]["membership"].update(configs=[[1, 2]]), "member add 3="),
}
HARMLESS = {
    "odd-voters": (four_voters, "promote or demote"),
    "endpoints": (learner, "raftctl context add demo"),
    "snapshots": (lambda c: c.nodes[2].update(last_log=log_id(200_000)), "snapshot --node 2"),
    "versions": (lambda c: c.nodes[2].update(version="0.2.0"), "install one version"),
}


@pytest.mark.parametrize("rule", sorted(CASES))
def test_what_is_wrong_is_found_with_what_mends_it_and_exits_with_10(cluster, raftctl, rule):
    prepare, fix = CASES[rule]
    prepare(cluster)
    assert fix in found(raftctl)[rule]["fix"]
    assert fix in raftctl("doctor", code=10).out
    assert [] == cluster.mutations


@pytest.mark.parametrize("rule", sorted(HARMLESS))
def test_what_is_only_worth_knowing_exits_with_0(cluster, raftctl, rule):
    prepare, fix = HARMLESS[rule]
    prepare(cluster)
    one = found(raftctl, code=0)[rule]
    assert ("info", True) == (one["severity"], fix in one["fix"])


def test_a_log_that_a_snapshot_covers_and_nobody_purged_is_told(cluster, raftctl):
    cluster.nodes[2] |= {"snapshot": log_id(2_000_000), "last_log": log_id(2_000_000)}
    assert "purge-log --upto 2000000 --node 2" in found(raftctl, code=0)["snapshots"]["fix"]


def test_a_node_of_which_a_new_leader_knows_nothing_is_not_said_to_lack_entries(cluster, raftctl):
    cluster.nodes[1]["purged"] = log_id(50)
    cluster.target(3)["matching"] = None
    raftctl("doctor")


@pytest.mark.parametrize("state", ["snapshot", "reverted"])
def test_a_node_that_is_not_simply_followed_is_told_of(cluster, raftctl, state):
    cluster.target(3).update(state=state, snapshot_sent_bytes=512, snapshot_size_bytes=2048)
    words = {"snapshot": "512 B of 2.0 KiB", "reverted": "less than it had acknowledged"}
    assert words[state] in found(raftctl, code=None)["lag"]["evidence"]


def test_a_directory_that_was_taken_away_is_put_back_or_given_up(cluster, raftctl):
    cluster.nodes[3].update(state="shutdown", fatal="whatever it says", fatal_code="directory_gone")
    fix = found(raftctl, code=None)["engine"]["fix"]
    assert "put the directory of node 3 back" in fix
    assert fix.endswith("raftctl rejoin-node 3 --blank")


def test_findings_are_folded_between_words_on_a_narrow_terminal_and_commands_are_whole(cluster, raftctl, monkeypatch):
    cluster.target(3).update(state="reverted")
    words = raftctl("doctor", code=None).out.split()
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    shown = raftctl("doctor", code=None).out
    assert words == shown.split()
    assert max(map(len, shown.splitlines())) <= 60
    assert "\n      raftctl rejoin-node 3 --blank\n" in shown


def test_a_node_that_hangs_is_to_be_restarted(cluster, raftctl):
    cluster.down[3] = httpx.ReadTimeout("paused")
    one = found(raftctl, code=None)["answers"]
    assert one["evidence"].endswith("no answer in 1 s")
    assert "restart it if it hangs" in one["fix"]


def test_a_voter_that_came_back_with_less_is_sent_to_begin_afresh(cluster, raftctl):
    cluster.target(3).update(state="reverted")
    assert found(raftctl, code=None)["lag"]["fix"].endswith("with an empty one, then raftctl rejoin-node 3 --blank")


def test_without_a_leader_the_one_who_could_win_is_named_and_it_exits_with_11(cluster, raftctl):
    cluster.lead(None)
    cluster.nodes[1]["last_log"] = log_id(90)
    one = found(raftctl, code=11)["leader"]
    assert "raftctl elect --node 2" == one["fix"]


MOVED = {"raft": "127.0.0.1:9242", "management": "http://127.0.0.1:9102"}


def cut_off(cluster, node=2):
    cluster.target(node).update(state="unreachable", lag=3)


def test_a_node_that_its_leader_does_not_reach_is_named_with_the_address_that_is_dialed(cluster, raftctl):
    cut_off(cluster)
    one = found(raftctl)["links"]
    assert (one["severity"], one["node"]) == ("bad", 2)
    assert "node 1, which leads, does not reach it at 127.0.0.1:9202" in one["evidence"]
    assert "look at the way from node 1 to 127.0.0.1:9202" in one["fix"]


def test_a_node_that_listens_elsewhere_is_named_with_both_addresses_and_both_ways_out(cluster, raftctl):
    cut_off(cluster)
    cluster.nodes[2]["advertised"] = MOVED
    one = found(raftctl)["links"]
    assert "does not reach it at 127.0.0.1:9202; it says itself that it is at 127.0.0.1:9242" in one["evidence"]
    assert "have it listen at 127.0.0.1:9202 again" in one["fix"]
    assert """-d '{"id":2,"raft":"127.0.0.1:9242",""" in one["fix"]
    assert one["fix"].endswith("http://127.0.0.1:9101/v1/membership/addresses")


def test_a_node_that_its_leader_does_not_reach_is_not_counted_as_up(cluster, raftctl):
    cut_off(cluster)
    one = found(raftctl)["tolerance"]
    assert "2 of 3 voters are up (node 2 is not reached by its leader): the next failure stops writes" == one["evidence"]
    assert "see what is said of node 2" == one["fix"]


def test_a_link_that_is_back_at_the_second_look_was_no_trouble(cluster, raftctl):
    rows = cluster.nodes[1]["replication"]
    before = cluster.nodes[1] | {"replication": rows | {"2": rows["2"] | {"state": "unreachable"}}}
    cluster.answers("/v1/status", httpx.Response(200, json=before), method="GET", node=1)
    assert {} == found(raftctl, code=0)


def test_a_node_that_answers_nobody_is_not_said_to_have_lost_its_link(cluster, raftctl):
    cut_off(cluster)
    cluster.down[2] = REFUSED
    assert "links" not in found(raftctl)


@pytest.mark.parametrize("raft", ["127.0.0.1:9202", "localhost:9202", "127.0.0.1:9242"])
def test_an_address_of_its_own_is_no_trouble_while_its_leader_reaches_it(cluster, raftctl, raft):
    cluster.nodes[2]["advertised"] = MOVED | {"raft": raft}
    assert {} == found(raftctl, code=0)


def test_without_a_leader_an_election_that_needs_a_node_that_moved_is_not_proposed(cluster, raftctl):
    cluster.lead(None)
    cluster.down[1] = REFUSED
    cluster.nodes[2].update(advertised=MOVED, last_log=log_id(90))
    rules = found(raftctl, code=11)
    assert "node 3 could win only if node 2 is reached by its peers" in rules["leader"]["evidence"]
    assert "elect" not in rules["leader"]["fix"]
    assert "its peers look for it at 127.0.0.1:9202" in rules["links"]["evidence"]


def test_a_node_that_moved_reaches_the_others_itself(cluster, raftctl):
    cluster.lead(None)
    cluster.down[1] = REFUSED
    cluster.nodes[2]["advertised"] = MOVED
    assert "raftctl elect --node 2" == found(raftctl, code=11)["leader"]["fix"]


@pytest.mark.parametrize(("raft", "moved"), [("localhost:9202", False), ("127.0.0.9:9202", True), ("localhost:9242", True)])
def test_a_name_may_be_the_number_that_peers_use(cluster, raftctl, raft, moved):
    cluster.lead(None)
    cluster.nodes[2]["advertised"] = MOVED | {"raft": raft}
    assert moved is ("links" in found(raftctl, code=11))


OLDER_COPY = {"code": "older_copy", "detail": "runs on an older copy", "hint": "h", "node": 3}


def test_without_a_leader_a_node_on_an_older_copy_is_no_part_of_a_quorum_and_its_vote_wins_nothing(cluster, raftctl):
    cluster.lead(None)
    cluster.down[2] = REFUSED
    cluster.nodes[3]["alarms"] = [OLDER_COPY]
    rules = found(raftctl, code=11)
    assert "1 of 3 voters are up (node 3 is fenced), 2 are needed: writes are impossible" == rules["quorum"]["evidence"]
    assert rules["quorum"]["fix"].startswith("start node 2")
    assert "none could win" in rules["leader"]["evidence"]


def test_without_a_quorum_it_exits_with_11(cluster, raftctl):
    cluster.lead(None)
    cluster.down |= {2: REFUSED, 3: REFUSED}
    rules = found(raftctl, code=11)
    assert "start node 2 and 3 with the directories they had" == rules["quorum"]["fix"]
    assert "none could win" in rules["leader"]["evidence"]


def test_without_a_quorum_lost_directories_are_put_back_and_no_new_life_is_spoken_of(cluster, raftctl):
    cluster.lead(None)
    for node in (2, 3):
        blank(cluster, node)
    findings = raftctl("doctor -o json", code=11).data["findings"]
    assert not any("--blank" in one["fix"] or "start node" in one["fix"] for one in findings)
    (quorum,) = [one["fix"] for one in findings if one["rule"] == "quorum"]
    assert quorum.startswith("put the directory of node 2 or 3 back as it was when it stopped")


def test_a_directory_that_was_taken_away_is_not_given_up_without_a_quorum(cluster, raftctl):
    cluster.nodes[3].update(state="shutdown", fatal="whatever it says", fatal_code="directory_gone")
    cluster.down[2] = REFUSED
    fixes = [one["fix"] for one in raftctl("doctor -o json", code=11).data["findings"]]
    assert any("put the directory of node 3 back" in fix for fix in fixes)
    assert not any("--blank" in fix for fix in fixes)


@pytest.mark.parametrize("more", [{"state": "shutdown", "fatal": "ENOSPC"}, {"snapshot": None}, {"purged": log_id(50)}])
def test_on_a_full_disk_no_purge_is_offered_that_would_be_refused(cluster, raftctl, more):
    cluster.nodes[2].update(free_bytes=10**6, **more)
    fix = found(raftctl)["disk"]["fix"]
    assert fix.startswith("make room where its data is")
    assert "purge-log" not in fix


def test_when_nobody_answers_it_exits_with_4(cluster, raftctl):
    cluster.down |= dict.fromkeys((1, 2, 3), REFUSED)
    assert "answers" in found(raftctl, code=4)


def test_who_may_not_ask_is_told_to_give_a_token_and_it_exits_with_12(cluster, raftctl):
    for node in (1, 2, 3):
        cluster.answers("/v1/status", *[problem(401, "unauthorized")] * 2, method="GET", node=node)
    assert "--token-file" in found(raftctl, code=12)["answers"]["fix"]


def test_a_new_life_that_learns_and_does_not_vote_yet_is_waited_for(cluster, raftctl):
    for status in cluster.nodes.values():
        lives = status["membership"]["incarnations"] | {"3": ["3" * 32, "f" * 32]}
        status["membership"] = status["membership"] | {"learners": [3], "incarnations": lives}
    cluster.nodes[3]["incarnation"] = "f" * 32
    rules = found(raftctl)
    assert "does not yet vote in the place of its former one" in rules["recovering"]["evidence"]
    assert "2 of 3 voters are up (node 3 is not admitted)" in rules["tolerance"]["evidence"]


def test_the_worst_comes_first(cluster, raftctl):
    four_voters(cluster)
    cluster.nodes[2]["runtime_config"]["enable_elect"] = False
    cluster.down[4] = REFUSED
    severities = [one["severity"] for one in raftctl("doctor -o json", code=10).data["findings"]]
    assert severities == sorted(severities, key=["bad", "warn", "info"].index)


def test_a_term_that_rises_while_it_is_looked_at_is_found(cluster, raftctl):
    later = httpx.Response(200, json=cluster.nodes[1] | {"term": 3})
    now = httpx.Response(200, json=cluster.nodes[1])
    cluster.answers("/v1/status", now, later, method="GET", node=1)
    assert "from 2 to 3" in found(raftctl)["term-churn"]["evidence"]


def test_a_change_of_members_that_is_over_at_the_second_look_is_not_stuck(cluster, raftctl):
    moving = {**cluster.nodes[1], "membership": {**cluster.nodes[1]["membership"], "committed": False}}
    cluster.answers("/v1/status", httpx.Response(200, json=moving), method="GET", node=1)
    assert {} == found(raftctl, code=0)


def test_a_token_that_others_can_read_is_found(cluster, raftctl, tmp_path):
    token = tmp_path / "token"
    token.write_text("secret")
    token.chmod(0o644)
    result = raftctl("doctor -o json", "--token-file", str(token), code=10)
    assert f"chmod 600 {token}" == result.data["findings"][0]["fix"]
    token.chmod(0o600)
    raftctl("doctor", "--token-file", str(token))


def test_a_runbook_that_did_not_end_is_found(cluster, raftctl):
    from raftctl.runbook.journal import FORMAT, Journal

    journal = Journal.begin("rejoin-node-3")
    journal.write("run_begun", journal=FORMAT, command="rejoin-node", cluster="demo", params={}, node=3)
    run_id = next(iter(raftctl("runs list -o json").data["items"]))["run"]
    journal.close()
    assert f"raftctl runs resume {run_id}" in found(raftctl)["unfinished-runs"]["fix"]


def test_a_permission_that_a_rejoin_needs_is_not_to_be_taken_from_it(cluster, raftctl):
    from raftctl.runbook.journal import FORMAT, Journal

    cluster.target(3).update(revert_armed=True)
    assert "unless a rejoin of it is under way" in found(raftctl)["armed"]["fix"]
    cluster.nodes[3]["recovering"] = {"until": log_id(90), "reason": "wiped"}
    assert "once it has: raftctl allow-next-revert --to 3 --no-allow" in found(raftctl)["armed"]["fix"]
    journal = Journal.begin("rejoin-node-3")
    journal.write("run_begun", journal=FORMAT, command="rejoin-node", cluster="demo", params={}, node=3)
    journal.close()
    resume, abort = f"raftctl runs resume {journal.run_id}", f"raftctl runs abort {journal.run_id}"
    assert f"run {journal.run_id} gave it: {resume}, or: {abort}" == found(raftctl)["armed"]["fix"]


def test_no_abort_is_offered_for_a_run_that_has_no_way_back(cluster, raftctl):
    from raftctl.runbook.journal import FORMAT, Journal

    journal = Journal.begin("rejoin-node-3")
    journal.write("run_begun", journal=FORMAT, command="rejoin-node", cluster="demo", params={}, node=3)
    journal.write("no_way_back", step="catch-up")
    journal.close()
    assert found(raftctl)["unfinished-runs"]["fix"] == f"raftctl runs resume {journal.run_id}"


def test_a_stopped_engine_is_not_asked_whether_members_are_being_changed(cluster, raftctl):
    blank_membership = {"configs": [], "learners": [], "nodes": {}, "log_id": None, "committed": True}
    cluster.nodes[3].update(state="shutdown", membership=blank_membership)
    assert "config-settled" not in found(raftctl)


def test_an_empty_directory_is_told_once(cluster, raftctl):
    blank(cluster)
    cluster.nodes[1].update(alarms=[{"code": "node_reverted", "detail": "came back empty", "hint": "h", "node": 3}])
    cluster.nodes[3].update(alarms=[{"code": "not_admitted", "detail": "is blank", "hint": "h", "node": 3}])
    cluster.target(3).update(state="reverted")
    about_it = {rule for rule, one in found(raftctl).items() if one["node"] == 3}
    assert about_it == {"life"}
    assert "config-settled" not in found(raftctl)


# -- clocks and places, without a cluster --------------------------------------------------------------------------------


def facts(**more):
    address = Address(raft="a:1", management="http://127.0.0.1:9101")
    membership = Membership(configs=((1,),), nodes={1: address}, incarnations={1: ("a",)})
    status = NodeStatus(cluster="demo", node_id=1, incarnation="a", state="leader", leader=1, membership=membership)
    survey = Survey(nodes=(NodeReport(node_id=1, management=address.management, status=status),))
    return Facts(before=survey, now=survey, **more)


def clock_findings(clocks):
    return [one.evidence for one in examine(facts(clocks=clocks)).found if one.rule == "clocks"]


def test_a_clock_is_wrong_only_when_the_cut_off_second_cannot_explain_it():
    assert [] == clock_findings({1: Clock(-0.9, 0.1), 2: Clock(1.9, 3.0)})
    assert ["its clock is at least 7 s ahead of this machine's"] == clock_findings({1: Clock(7.0, 8.0), 2: Clock(-0.5, 0.5)})
    assert ["its clock is at least 5 s behind this machine's"] == clock_findings({1: Clock(-6.0, -5.0)})


def test_when_all_clocks_are_off_alike_it_is_this_machines():
    (one,) = clock_findings({1: Clock(60.0, 61.0), 2: Clock(60.2, 61.2)})
    assert "this machine's clock is at least 60 s behind" in one


def test_a_replys_date_is_compared_with_the_time_around_it(cluster, raftctl):
    late = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() - 100))
    cluster.answers("/livez", httpx.Response(200, headers={"date": late}), method="GET", node=2)
    assert found(raftctl)["clocks"]["node"] == 2


def test_what_a_node_says_is_no_part_of_a_command_that_is_to_be_copied():
    survey = facts().now
    status = survey.statuses[0]
    bad = msgspec.structs.replace(status.membership, nodes={1: Address(raft="a:1", management="http://x/;rm -rf ~")})
    row = msgspec.structs.replace(survey.nodes[0], status=msgspec.structs.replace(status, membership=bad))
    found = examine(
        Facts(before=survey, now=Survey(nodes=(row,)), context="demo", endpoints=("http://127.0.0.1:9101",))
    ).found
    (fix,) = [one.fix for one in found if one.rule == "endpoints"]
    assert "-e 'http://x/;rm -rf ~'" in fix


def test_plain_http_to_another_machine_is_found():
    rules = {one.rule for one in examine(facts(endpoints=("http://10.0.0.1:9101",))).found}
    assert "plaintext" in rules
    for near in ("http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "https://10.0.0.1:9101"):
        assert "plaintext" not in {one.rule for one in examine(facts(endpoints=(near,))).found}
