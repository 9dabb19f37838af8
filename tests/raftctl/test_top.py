"""top: rates, histories and what happened, on a screen of any size and in a pipe."""

from __future__ import annotations

import json
import signal

import httpx
import pytest

from raftctl.gauging import Gauges, sparkline
from raftctl.http import Http
from raftctl.http_client import HttpClusterClient
from raftctl.output.dashboard import Screen, lines, plain_line
from raftctl.output.tables import Tone
from tests.raftctl.fake_cluster import log_id, url

REFUSED = httpx.ConnectError("[Errno 111] Connection refused")


@pytest.fixture
def survey(cluster):
    client = HttpClusterClient(Http(request_timeout_s=5.0), [url(node) for node in (1, 2, 3)])
    return client.cluster


def advance(cluster, entries):
    for status in cluster.nodes.values():
        index = status["committed"]["index"] + entries
        status.update(dict.fromkeys(("committed", "applied", "last_log"), log_id(index)))


def test_rates_are_entries_a_second_since_the_look_before(cluster, survey):
    gauges = Gauges()
    first = gauges.take(10.0, survey())
    advance(cluster, 300)
    second = gauges.take(12.0, survey())
    assert (first.committed_per_s, second.committed_per_s, second.committed) == (None, 150.0, 400)
    assert [150.0] * 3 == [node.applied_per_s for node in second.nodes]


def test_the_lag_of_a_node_that_does_not_answer_is_not_counted(cluster, survey):
    cluster.target(3).update(lag=63, state="unreachable")
    cluster.down[3] = REFUSED
    assert "lag at most 0" in plain_line(Gauges().take(1.0, survey()))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda cluster: cluster.lead(2, 3), ["node 2 leads term 3"]),
        (lambda cluster: cluster.lead(None, 3), ["no leader (latest term 3)"]),
        (lambda cluster: cluster.down.update({3: REFUSED}), ["node 3: follower -> unreachable"]),
        (
            lambda cluster: cluster.nodes[3].update(state="learner", recovering={"until": None, "reason": "wiped"}),
            ["node 3: follower -> recovering"],
        ),
        (lambda cluster: cluster.target(3).update(state="snapshot"), ["to node 3: replicate -> snapshot"]),
        (lambda cluster: cluster.nodes[1]["membership"].update(configs=[[1, 2]]), ["voters {1,2}"]),
        (lambda cluster: cluster.nodes[2].update(alarms=[{"code": "c", "detail": "d"}]), ["alarm of node 2: c: d"]),
        (lambda cluster: advance(cluster, 5), []),
    ],
)
def test_what_happens_between_two_looks_is_told(cluster, survey, change, told):
    gauges = Gauges()
    gauges.take(1.0, survey())
    change(cluster)
    assert told == list(gauges.take(2.0, survey()).changes)


@pytest.mark.parametrize(("width", "height"), [(120, 40), (60, 12), (30, 6), (200, 5)])
def test_the_screen_fits_its_terminal(cluster, survey, width, height):
    cluster.down[3] = REFUSED
    gauges = Gauges()
    for at in range(80):
        sample = gauges.take(float(at), survey())
    shown = lines(sample, gauges, ["something happened"] * 50, width=width, height=height, unicode=True)
    assert len(shown) <= height
    assert max(len(text) for text, _tone in shown) <= width


def test_a_note_that_does_not_fit_beside_its_node_is_shown_below_it(cluster, survey):
    cluster.down[3] = REFUSED
    gauges = Gauges()
    shown = [text for text, _ in lines(gauges.take(1.0, survey()), gauges, [], width=60, height=20, unicode=True)]
    [row] = [at for at, text in enumerate(shown) if "unreachable" in text]
    assert "connection refused" in " ".join(text.strip() for text in shown[row + 1 :])


def test_the_screen_shows_the_nodes_and_the_latest_of_what_happened(cluster, survey):
    cluster.down[3] = REFUSED
    gauges = Gauges()
    shown = [
        text for text, _ in lines(gauges.take(1.0, survey()), gauges, ["old", "new"], width=120, height=12, unicode=True)
    ]
    assert ["1", "2", "3"] == [text.split()[0] for text in shown[5:8]]
    assert "connection refused" in shown[7]
    assert ["  old", "  new"] == shown[-2:]


def test_a_sparkline_has_the_highest_bar_for_the_largest_value_that_counts():
    assert "▁█▅" == sparkline([0, 100, 50], 3, full=100, unicode=True)
    assert "▁▁" == sparkline([0, 1], 2, full=100, unicode=True)
    assert "_#" == sparkline([1, 0, 100], 2, full=1, unicode=False)
    assert "" == sparkline([1], 0, full=1, unicode=True)


def test_nobody_answers_at_the_last_look_is_4(cluster, raftctl):
    cluster.down |= dict.fromkeys((1, 2, 3), REFUSED)
    result = raftctl("top --count 1", code=4)
    assert "no leader" in result.out
    assert "no node answers" in result.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_terminal_is_given_back_whatever_happens(capsys, number):
    before = signal.getsignal(signal.SIGTERM)

    def interrupted():
        with Screen(color=True) as screen:
            screen.draw([("all is well", Tone.GOOD), ("", Tone.PLAIN)])
            signal.raise_signal(number)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    out = capsys.readouterr().out
    assert out.startswith("\x1b[?1049h\x1b[?25l")
    assert "\x1b[32mall is well\x1b[0m\x1b[K\r\n" in out
    assert out.endswith("\x1b[?25h\x1b[?1049l")
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_pipe_gets_a_line_a_look(cluster, raftctl):
    out = raftctl("top --count 2 --interval 50ms").out.splitlines()
    assert ["node 1 leads term 2; 3 of 3 up; committed 100"] * 2 == [line[10:].split(" (")[0] for line in out]
    assert "\x1b" not in "".join(out)


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_a_program_gets_a_document_a_line(cluster, raftctl, form):
    cluster.down[3] = REFUSED
    documents = [json.loads(line) for line in raftctl(f"top --count 2 --interval 50ms -o {form}").out.splitlines()]
    assert [("raftctl/v1", "top")] * 2 == [(document["schema"], document["kind"]) for document in documents]
    data = documents[0]["data"]
    assert (data["leader"], data["condition"], [node["state"] for node in data["nodes"]]) == (
        1,
        "degraded",
        ["leader", "follower", "unreachable"],
    )


def test_nobody_answering_is_shown_and_looked_at_again(cluster, raftctl):
    cluster.down |= dict.fromkeys((1, 2, 3), REFUSED)
    assert ["unreachable"] * 2 == raftctl("top --count 2 --interval 50ms -o name", code=4).out.split()
