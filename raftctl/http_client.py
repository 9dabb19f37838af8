"""The verbs of `ClusterClient` over the HTTP management endpoint; the only module that knows its paths.

Who leads is found by asking every endpoint and every member they name. A node that answers 421 names the leader: it is
followed once, and only to an address that the configured endpoints or their membership name, so that neither a request nor
a token is led astray.
Source: contract sections 2 to 4.
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from raftctl import interrupts, model
from raftctl.errors import CtlError
from raftctl.http import Http, NoTimeError, nobody
from raftctl.http_values import Reply, host_and_port
from raftctl.knocking import Acquaintance, Knocks
from raftctl.model import Address, Expect, Life, LogId, NodeStatus
from raftctl.output.text import printable
from raftctl.parallel import Asking, at_once
from raftctl.survey import EVERYBODY, NO_TIME, NodeError, NodeReport, Survey

if TYPE_CHECKING:
    from raftctl.events import RawEvent

T = TypeVar("T")

Answer = tuple[NodeStatus, Mapping[str, object]] | tuple[CtlError, None]
"""A node's status and how it worded it, or why there is none."""

_STATUS: Final = "/v1/status"
_CHECK_ENDPOINTS: Final = "check the endpoints: raftctl context list"
_JSON: Final = {"content-type": "application/json"}
_CANNOT_SERVE: Final = frozenset({"no_leader", "raft_stopped", "recovering", "blank", "shutting_down"})
"""What a node says that has done nothing and that another one may do."""
_GAVE_UP: Final = "timed_out"
"""What a node says that could not have a read confirmed in time, as one that is cut off from the others."""
_DISK_WAIT_S: Final = 5.0
"""A wipe waits for several directories to be on disk."""

with interrupts.held_back():
    msgspec.json.Decoder(NodeStatus)
# msgspec looks into a Struct when it first meets it, and two threads that do so at once crash the interpreter (seen with
# 0.22). Here it is met before there is a second thread.


class HttpClusterClient:
    """See `ClusterClient`. Not for two threads at a time."""

    def __init__(self, http: Http, endpoints: Sequence[str]) -> None:
        self._http = http
        self._endpoints = [endpoint.rstrip("/") for endpoint in endpoints]
        self._inventory = {place for endpoint in self._endpoints if (place := host_and_port(endpoint)) is not None}
        self._urls: dict[int, str] = {}
        self._leader: int | None = None
        self._surveyed = False
        self._known = Acquaintance(self._endpoints)
        """For keys: who answers."""

    def close(self) -> None:
        self._http.close()

    # -- looking -------------------------------------------------------------------------------------------------------

    def cluster(self, *, patient_with: Container[int] = ()) -> Survey:
        """Ask all endpoints, and as soon as one of them answers, the members that none of them turns out to be.

        Nobody waits long for one of many: who is silent is a row that says so. All the patience of a request is for the case
        that nobody answers, as on a machine that is too busy, for the leader, by the word of those who answer, and for those
        whom the question is about: a node that is slow must not be taken for one that is gone.
        """
        with_all_patience = patient_with is EVERYBODY
        answers = self._look_around(self._http.patience_s if with_all_patience else self._http.look_timeout_s)
        if self._may_wait and not with_all_patience and all(_is_silent(answer) for answer in answers.values()):
            answers = self._look_around(self._http.patience_s)
        members = _members(answers.values())
        homes, found = _homes(members), _found(answers.values())
        self._take_down(members)
        if self._http.has_time and _silent_leader(answers, members) is not None:
            known = [url for url, answer in answers.items() if not _is_silent(answer)]
            answers |= self._ask_all(known, self._http.look_timeout_s)  # by now another one may lead
        names = {url: node_id for url, node_id in homes.items() if node_id not in found}
        if self._may_wait:
            leader = _silent_leader(answers, members)
            had_it = self._endpoints if with_all_patience else ()
            awaited = [url for url in answers if (url == leader or names.get(url, 0) in patient_with) and url not in had_it]
            answers |= self._ask_all([url for url in awaited if _is_silent(answers[url])], self._http.patience_s)
        survey = Survey(nodes=tuple(_reports(answers, names, members)))
        self._remember(survey)
        for url, answer in answers.items():
            if not isinstance(answer[0], NoTimeError):
                self._known.note(url, is_silent=_is_silent(answer))
        return survey

    def _take_down(self, members: Mapping[int, Address]) -> None:
        """From here on their addresses are known."""
        self._inventory |= {
            place for address in members.values() if (place := host_and_port(address.management)) is not None
        }

    def _look_around(self, within_s: float) -> dict[str, Answer]:
        """Return what endpoints and members say, in that order.

        A member that answers at an endpoint of another name is not waited for at its own. Who was asked by the word of somebody
        who turned out to know an older membership, or another cluster's, is not there.
        """

        def ask(url: str) -> Reply | CtlError:
            return self._get(url + _STATUS, within_s=within_s if url in self._endpoints else self._http.look_timeout_s)

        asked = list(dict.fromkeys(self._endpoints))
        asking = Asking(ask)
        asking.add(asked)
        answers: dict[str, Answer] = {}
        homes: dict[str, int] = {}
        found: set[int] = set()

        def matters(url: str) -> bool:
            return url in self._endpoints or homes.get(url, 0) not in {0, *found}

        while any(matters(url) for url in asked if url not in answers) and (came := asking.next()) is not None:
            answers[came[0]] = _answer(came[1], came[0])
            homes = _homes(_members(answers.values()))
            found = _found(answers.values())
            more = [url for url in homes if url not in asked and matters(url)]
            asking.add(more)
            asked += more
        of_members = [url for url in homes if url in answers and not isinstance(answers[url][0], CtlError)]
        return {url: answers[url] for url in asked if url in answers and (matters(url) or url in of_members)}

    @property
    def _may_wait(self) -> bool:
        """Whether who was silent for as long as a mere look can be waited for longer."""
        return self._http.has_more_patience and self._http.has_time

    def _ask_all(self, urls: Sequence[str], within_s: float) -> dict[str, Answer]:
        """Return each one's status or why there is none."""
        if not urls:
            return {}
        replies = self._get_at_once(urls, _STATUS, within_s=within_s)
        return {url: _answer(reply, url) for url, reply in zip(urls, replies, strict=True)}

    def _get_at_once(
        self, urls: Sequence[str], path: str, *, wait_s: float = 0.0, within_s: float | None = None
    ) -> list[Reply | CtlError]:
        """Threads only wait for replies; decoding is the caller's, as msgspec's first look at a type is not safe in several at once."""

        return at_once(lambda url: self._get(url + path, wait_s=wait_s, within_s=within_s), urls)

    def _get(self, url: str, *, wait_s: float = 0.0, within_s: float | None = None) -> Reply | CtlError:
        try:
            return self._http.send("GET", url, wait_s=wait_s, within_s=within_s)
        except CtlError as error:
            return error

    def _remember(self, survey: Survey) -> None:
        self._urls = {node.node_id: node.management for node in survey.nodes if node.node_id is not None and node.management}
        self._leader = survey.leader.node_id if survey.leader is not None else None
        self._surveyed = True

    def status(self, node: int) -> NodeStatus:
        return self._call(self._url_of(node), "GET", _STATUS, NodeStatus)

    def digests(self, nodes: Sequence[int], at: int | None, *, wait_s: float) -> Mapping[int, model.DigestReply | CtlError]:
        where = "" if at is None else f"at={at}&"
        path = f"/v1/digest?{where}wait={_duration(wait_s)}"
        urls = [self._url_of(node) for node in nodes]
        replies = self._get_at_once(urls, path, wait_s=wait_s)
        return {node: _digest(reply, url) for node, reply, url in zip(nodes, replies, urls, strict=True)}

    def clocks(self, nodes: Sequence[int]) -> Mapping[int, tuple[float, float]]:
        """A reply's `date` is a whole second, cut off: the truth lies within the one that it begins."""

        def ask(url: str) -> tuple[float, float] | None:
            begun = time.time()
            try:
                reply = self._http.send("GET", url + "/livez", within_s=self._http.look_timeout_s)
            except CtlError:
                return None
            told = _unix_time(reply.headers.get("date", ""))
            return None if told is None else (told - time.time(), told + 1.0 - begun)

        found = at_once(ask, [self._url_of(node) for node in nodes])
        return {node: clock for node, clock in zip(nodes, found, strict=True) if clock is not None}

    def listen(self, node: int, last_id: str | None) -> Iterator[RawEvent]:
        from raftctl.events import SILENT_S, parsed

        headers = {"accept": "text/event-stream"} | ({} if last_id is None else {"last-event-id": last_id})
        return parsed(self._http.pieces(self._url_of(node) + "/v1/events", headers=headers, silent_s=SILENT_S))

    # -- triggers ------------------------------------------------------------------------------------------------------

    def elect(self, node: int, *, pre_vote: bool, expect: Expect | None, wait_s: float) -> model.ActionReply:
        return self._act(node, "/v1/trigger/elect", {"pre_vote": pre_vote}, expect, wait_s)

    def heartbeat(self, *, wait_s: float) -> model.ActionReply:
        return self._act(None, "/v1/trigger/heartbeat", {}, None, wait_s)

    def snapshot(self, node: int, *, wait_s: float) -> model.ActionReply:
        return self._act(node, "/v1/trigger/snapshot", {}, None, wait_s)

    def purge_log(self, node: int, upto: int, *, strict: bool, expect: Expect | None, wait_s: float) -> model.ActionReply:
        return self._act(node, "/v1/trigger/purge-log", {"upto": upto, "strict": strict}, expect, wait_s)

    def transfer_leader(self, to: int, *, expect: Expect | None, wait_s: float) -> model.ActionReply:
        return self._act(None, "/v1/trigger/transfer-leader", {"to": to}, expect, wait_s)

    def allow_next_revert(self, to: int, *, allow: bool, ttl_s: float, expect: Expect | None) -> model.ActionReply:
        body = {"to": to, "allow": allow, "ttl_ms": round(ttl_s * 1000)}
        return self._act(None, "/v1/trigger/allow-next-revert", body, expect, 0.0)

    # -- members -------------------------------------------------------------------------------------------------------

    def add_learner(self, node: int, address: Address, *, expect: Expect | None, wait_s: float) -> model.ActionReply:
        body = {"id": node, "raft": address.raft, "management": address.management}
        return self._act(None, "/v1/membership/learners", body, expect, wait_s)

    def set_voters(self, voters: Sequence[int], *, retain: bool, expect: Expect | None, wait_s: float) -> model.ActionReply:
        body = {"voters": list(voters), "retain": retain}
        return self._act(None, "/v1/membership/voters", body, expect, wait_s)

    def remove_member(self, node: int, *, expect: Expect | None, wait_s: float) -> model.ActionReply:
        path = f"/v1/membership/{node}?wait={_duration(wait_s)}"
        return self._to_leader("DELETE", path, model.ActionReply, _expectation(expect), wait_s=wait_s)

    # -- changes -------------------------------------------------------------------------------------------------------

    def init(self, members: Mapping[int, Address], *, wait_s: float) -> model.ActionReply:
        body = {"members": {str(node_id): msgspec.to_builtins(address) for node_id, address in members.items()}}
        path = f"/v1/init?wait={_duration(wait_s)}"
        return self._call(self._initiator(members), "POST", path, model.ActionReply, body, wait_s=wait_s)

    def _initiator(self, members: Mapping[int, Address]) -> str:
        places = {host_and_port(address.management) for address in members.values()}
        return next((url for url in self._endpoints if host_and_port(url) in places), self._endpoints[0])

    def abort_init(self) -> model.ActionReply:
        return self._call(self._endpoints[0], "POST", "/v1/init", model.ActionReply, {"abort": True})

    def set_runtime_config(self, node: int, flags: Mapping[str, bool], *, wait_s: float) -> model.ActionReply:
        path = f"/v1/runtime-config?wait={_duration(wait_s)}"
        return self._call(self._url_of(node), "PATCH", path, model.ActionReply, dict(flags), wait_s=wait_s)

    def barrier(self, exclude: Sequence[int], *, digest: bool, expect: Expect | None, wait_s: float) -> model.BarrierReply:
        body: dict[str, object] = {"exclude": list(exclude)}
        if digest:
            body["digest"] = True
        path = f"/v1/barrier?wait={_duration(wait_s)}"
        return self._to_leader("POST", path, model.BarrierReply, body | _expectation(expect), wait_s=wait_s)

    def stop_raft(self, node: int) -> model.ActionReply:
        return self._act(node, "/v1/node/stop-raft", {}, None, 0.0)

    def start_raft(self, node: int) -> model.ActionReply:
        return self._act(node, "/v1/node/start-raft", {}, None, 0.0)

    def wipe(
        self, node: int, *, cluster: str, recover_until: LogId, reason: str, expect_life: Life | None
    ) -> model.WipeReply:
        body: dict[str, object] = {
            "confirm_node": node,
            "confirm_cluster": cluster,
            "recover_until": msgspec.to_builtins(recover_until),
            "reason": reason,
        }
        if expect_life is not None:
            body["expect_life"] = msgspec.to_builtins(expect_life)
        return self._call(self._url_of(node), "POST", "/v1/node/wipe", model.WipeReply, body, wait_s=_DISK_WAIT_S)

    def restore(self, node: int, *, cluster: str, retired: str) -> model.RestoreReply:
        body = {"confirm_node": node, "confirm_cluster": cluster, "retired": retired}
        return self._call(self._url_of(node), "POST", "/v1/node/restore", model.RestoreReply, body, wait_s=_DISK_WAIT_S)

    # -- data ----------------------------------------------------------------------------------------------------------

    def kv_put(self, key: bytes, value: bytes, *, revision: int | None, create: bool, request_id: str) -> model.WriteReply:
        headers = {"content-type": "application/octet-stream", "idempotency-key": request_id} | _condition(
            revision, create=create
        )
        return _decoded(self._try_nodes("PUT", f"/v1/kv/{_escaped(key)}", value, headers), model.WriteReply, "the leader")

    def kv_delete(self, key: bytes, *, revision: int | None, request_id: str) -> model.WriteReply:
        headers = {"idempotency-key": request_id} | _condition(revision, create=False)
        return _decoded(self._try_nodes("DELETE", f"/v1/kv/{_escaped(key)}", None, headers), model.WriteReply, "the leader")

    def kv_get(self, key: bytes, *, consistency: str) -> model.Value:
        reply = self._try_nodes("GET", f"/v1/kv/{_escaped(key)}?consistency={consistency}")
        _check(reply, "the node")
        return model.Value(reply.body, int(reply.headers.get("etag", "0").removeprefix("W/").strip('"') or 0))

    def kv_list(self, prefix: bytes, *, after: bytes | None, limit: int, consistency: str) -> model.ItemList:
        from urllib.parse import urlencode

        query: dict[str, str | bytes] = {"prefix": prefix, "limit": str(limit), "consistency": consistency}
        if after is not None:
            query["after"] = after
        return _decoded(self._try_nodes("GET", f"/v1/kv?{urlencode(query)}"), model.ItemList, "the node")

    def _try_nodes(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send to a node that can serve; when that fails because one was silent for a moment, again with all the patience.

        Nothing was sent to the silent one. The second time another one may lead, and who is slow is waited for.
        """
        doubted = set(self._known.doubted)
        try:
            return self._try_each(method, path, body, headers)
        except CtlError as error:
            if error.code != "unreachable" or not self._may_wait or self._known.doubted <= doubted:
                raise
        return self._try_each(method, path, body, headers)

    def _try_each(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str] | None) -> Reply:
        """Send to the first endpoint, then the first known member, that can serve, following it to the leader once.

        One that cannot be reached, knows no leader or does not take part has done nothing; a node that was removed knows
        none for ever. Nor has a read done anything that nobody confirmed in time: the others are asked.
        """
        order = self._known.order
        urls = [*order, *(url for url in self._urls.values() if url not in order)]
        knocks = Knocks(urls, self._known, self._knock_at)
        refused: Reply | None = None
        while (url := knocks.next()) is not None:
            try:
                reply = self._send_noting(method, url, path, body, headers)
            except CtlError as error:
                if error.code != "unreachable":
                    raise
                knocks.silent[url] = error
                continue
            if reply.status == 421:
                leader = self._leader_of(reply, url)
                knocks.reach(leader)
                return self._send_noting(method, leader, path, body, headers)
            if method == "GET" and reply.status >= 500 and _code(reply) == _GAVE_UP:
                self._known.ask_last(url)
                refused = reply
            elif not _cannot_serve(reply):
                return reply
            elif refused is None or _code(reply) == "no_leader":  # says more than that a node is stopped
                refused = reply
        if refused is not None:
            return refused
        raise _nobody(list(knocks.silent.values()))

    def _send_noting(self, method: str, url: str, path: str, body: bytes | None, headers: Mapping[str, str] | None) -> Reply:
        try:
            reply = self._http.send(method, url + path, body=body, headers=headers)
        except CtlError:
            self._known.note(url, is_silent=True)
            raise
        return _of_ours(_explained(reply, method, url), method, url, path)

    def _knock_at(self, url: str) -> CtlError | None:
        """Return why it does not answer. Who was silent before is given all the patience of a request."""
        within_s = self._http.patience_s if url in self._known.doubted else self._http.look_timeout_s
        reply = self._get(url + "/livez", within_s=within_s)
        return reply if isinstance(reply, CtlError) else None

    # -- one request ---------------------------------------------------------------------------------------------------

    def _act(
        self, node: int | None, path: str, body: Mapping[str, object], expect: Expect | None, wait_s: float
    ) -> model.ActionReply:
        """A mutation that answers with an action reply; `node` None: the leader."""
        if wait_s > 0:
            path = f"{path}?wait={_duration(wait_s)}"
        whole = dict(body) | _expectation(expect)
        if node is None:
            return self._to_leader("POST", path, model.ActionReply, whole, wait_s=wait_s)
        return self._call(self._url_of(node), "POST", path, model.ActionReply, whole, wait_s=wait_s)

    def _call(
        self,
        url: str,
        method: str,
        path: str,
        kind: type[T],
        body: Mapping[str, object] | None = None,
        *,
        wait_s: float = 0.0,
    ) -> T:
        return _decoded(self._send(url, method, path, body, wait_s), kind, url)

    def _send(self, url: str, method: str, path: str, body: Mapping[str, object] | None, wait_s: float) -> Reply:
        content = None if body is None else msgspec.json.encode(body)
        reply = self._http.send(method, url + path, body=content, headers=None if body is None else _JSON, wait_s=wait_s)
        return _explained(reply, method, url)

    def _to_leader(self, method: str, path: str, kind: type[T], body: Mapping[str, object], *, wait_s: float) -> T:
        url = self._leader_url()
        reply = self._send(url, method, path, body, wait_s)
        if reply.status == 421:
            url = self._leader_of(reply, url)
            reply = self._send(url, method, path, body, wait_s)
        return _decoded(reply, kind, url)

    def _leader_url(self) -> str:
        if self._leader is None:
            self.cluster()
        if self._leader is None:
            if not self._urls:
                raise CtlError("unreachable", f"none of {', '.join(self._endpoints)} answers", hint="see: raftctl status")
            raise CtlError("no_leader", "no node says that it leads", hint="see: raftctl status")
        return self._urls[self._leader]

    def _leader_of(self, reply: Reply, said_by: str) -> str:
        """Return where a 421 sends us, if that is one of the cluster's own addresses.

        Who says so names them, too, and answers; only if that is not enough all are asked, which waits for those who do not.
        """
        problem = _problem(reply)
        leader = problem.leader if problem is not None else None
        if leader is None:
            raise _failure(reply, "the node")
        if not self._is_known(leader.management):
            self._take_down(_members(self._ask_all([said_by], self._http.look_timeout_s).values()))
        if not self._is_known(leader.management):
            self.cluster()
        url = self._urls.get(leader.id, leader.management or "")
        if not self._is_known(url):
            raise CtlError(
                "not_leader",
                f"node {leader.id} is said to lead at {printable(url) or '?'}, which no endpoint's membership names",
                hint="add its address to the context's endpoints if it is right",
            )
        self._leader = leader.id
        self._urls[leader.id] = url.rstrip("/")
        return self._urls[leader.id]

    def _is_known(self, url: str | None) -> bool:
        return url is not None and host_and_port(url) in self._inventory

    def _url_of(self, node: int) -> str:
        if not self._surveyed or node not in self._urls:
            self.cluster()
        url = self._urls.get(node)
        if url is None:
            known = ", ".join(map(str, sorted(self._urls))) or "none answered"
            raise CtlError("node_not_found", f"there is no node {node}; known are: {known}", hint="see: raftctl nodes")
        return url


# -- from replies to values --------------------------------------------------------------------------------------------


def _answer(reply: Reply | CtlError, url: str) -> Answer:
    if isinstance(reply, CtlError):
        return reply, None
    try:
        raw = _decoded(reply, dict[str, object], url)
        return _read(raw, NodeStatus, url), raw
    except CtlError as error:
        return error, None


def _nobody(silent: Sequence[CtlError]) -> CtlError:
    if len(silent) == 1:
        return silent[0]
    return nobody([error.message for error in silent], look_with="raftctl status")


def _is_silent(answer: Answer) -> bool:
    status, _raw = answer
    return isinstance(status, CtlError) and status.code == "unreachable"


def _silent_leader(answers: Mapping[str, Answer], members: Mapping[int, Address]) -> str | None:
    """Return where the leader is that others name in the latest term, if it was asked and is silent."""
    told = [status for status, _raw in answers.values() if not isinstance(status, CtlError)]
    term = max((status.term for status in told), default=0)
    for status in told:
        address = members.get(status.leader or 0) if status.term == term else None
        url = address.management.rstrip("/") if address is not None else ""
        if url in answers and _is_silent(answers[url]):
            return url
    return None


def _digest(reply: Reply | CtlError, url: str) -> model.DigestReply | CtlError:
    if isinstance(reply, CtlError):
        return reply
    try:
        return _decoded(reply, model.DigestReply, url)
    except CtlError as error:
        return error


def _unix_time(date: str) -> float | None:
    """Return the time of an HTTP date (RFC 9110, 5.6.7: the preferred format)."""
    import calendar

    try:
        return float(calendar.timegm(time.strptime(date, "%a, %d %b %Y %H:%M:%S GMT")))
    except ValueError:
        return None


def _members(answers: Iterable[Answer]) -> dict[int, Address]:
    """Return the members named by those with the latest membership; a leader's word weighs most."""
    statuses = [status for status, _raw in answers if not isinstance(status, CtlError)]
    ordered = sorted(statuses, key=lambda status: (status.leads, model.index_of(status.membership.log_id)))
    return dict(ordered[-1].membership.nodes) if ordered else {}


def _homes(members: Mapping[int, Address]) -> dict[str, int]:
    """Return whose management endpoint is where."""
    return {url: node_id for node_id, address in members.items() if (url := address.management.rstrip("/"))}


def _found(answers: Iterable[Answer]) -> set[int]:
    return {status.node_id for status, _raw in answers if not isinstance(status, CtlError)}


def _reports(
    answers: Mapping[str, Answer],
    names: Mapping[str, int],
    members: Mapping[int, Address],
) -> list[NodeReport]:
    """One row a node, members first; an endpoint that is silent and no member's address is a row without an id.

    Args:
        names: which member is at a URL.
    """
    rows: dict[int, NodeReport] = {}
    nameless: list[NodeReport] = []
    for url, (answer, raw) in answers.items():
        if isinstance(answer, CtlError):
            report = NodeReport(
                node_id=names.get(url),
                management=url,
                raft=_raft(members, names.get(url)),
                error=NodeError(NO_TIME if isinstance(answer, NoTimeError) else answer.code, answer.message),
            )
        else:
            report = NodeReport(
                node_id=answer.node_id, management=url, raft=_raft(members, answer.node_id), status=answer, raw=raw
            )
        known = rows.get(report.node_id or 0)
        if report.node_id is None:
            nameless.append(report)
        elif known is None or known.status is None:
            rows[report.node_id] = report
        elif known.status is not None and report.status is not None and known.status.cluster != report.status.cluster:
            detail = f"node {report.node_id} of another cluster, {printable(report.status.cluster)!r}"
            nameless.append(NodeReport(node_id=None, management=url, error=NodeError("other_cluster", detail)))
    return [rows[node_id] for node_id in sorted(rows)] + nameless


def _raft(members: Mapping[int, Address], node_id: int | None) -> str:
    address = members.get(node_id) if node_id is not None else None
    return address.raft if address is not None else ""


def _decoded(reply: Reply, kind: type[T], where: str) -> T:
    _check(reply, where)
    try:
        decoded: Any = msgspec.json.decode(reply.body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _not_an_endpoint(where, str(error)) from error
    return _read(decoded, kind, where)


def _read(raw: object, kind: type[T], where: str) -> T:
    try:
        with interrupts.held_back():
            return msgspec.convert(raw, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _not_an_endpoint(where, str(error)) from error


def _not_an_endpoint(where: str, why: str) -> CtlError:
    return CtlError(
        "not_an_endpoint",
        f"{where} answers, but not as a management endpoint does: {printable(why)}",
        hint=_CHECK_ENDPOINTS,
    )


def _explained(reply: Reply, method: str, url: str) -> Reply:
    """Return a reply, unless a change failed without a word of an endpoint: what answered may have handed it on to one.

    Raises: CtlError: `unclear_answer`.
    """
    if method == "GET" or reply.status < 500 or _code(reply):
        return reply
    message = f"{method} was answered by {url} with {reply.status} and no explanation; it may have been carried out"
    raise CtlError("unclear_answer", message, hint=_CHECK_ENDPOINTS, status=reply.status)


def _of_ours(reply: Reply, method: str, url: str, path: str) -> Reply:
    """Return a reply about a key, unless it says "done" and is no endpoint's: whoever that is has no keys.

    Raises: CtlError: `not_an_endpoint`; after a change `unclear_answer`, for it may have been handed on to one of ours.
    """
    if not 200 <= reply.status < 300 or "x-raft-node" in reply.headers or _reads_as_ours(reply, method, path):
        return reply
    error = _not_an_endpoint(url, "its reply lacks X-Raft-Node")
    if method == "GET":
        raise error
    raise CtlError("unclear_answer", f"{method} was answered with {reply.status}, and {error.message}", hint=error.hint)


def _reads_as_ours(reply: Reply, method: str, path: str) -> bool:
    """Whether it is what an endpoint says, though something on the way has taken our headers from it."""
    if method == "GET" and not path.startswith("/v1/kv?"):
        is_page = reply.headers.get("content-type", "").startswith("text/html")
        return not is_page and reply.headers.get("etag", "").strip('"').isdecimal()
    try:
        msgspec.json.decode(reply.body, type=model.ItemList if method == "GET" else model.WriteReply)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return True


def _check(reply: Reply, where: str) -> None:
    if not 200 <= reply.status < 300:
        raise _failure(reply, where)


def _problem(reply: Reply) -> model.Problem | None:
    try:
        raw = msgspec.json.decode(reply.body)
        told = {name: value for name, value in raw.items() if value is not None}
        with interrupts.held_back():
            return msgspec.convert(told, model.Problem, strict=False)
    except (msgspec.MsgspecError, UnicodeDecodeError, AttributeError):
        return None


def _cannot_serve(reply: Reply) -> bool:
    """Whether the node has done nothing, and another one may."""
    return reply.status in {409, 503} and _code(reply) in _CANNOT_SERVE


def _code(reply: Reply) -> str:
    problem = _problem(reply)
    return problem.code if problem is not None else ""


def _failure(reply: Reply, where: str) -> CtlError:
    problem = _problem(reply)
    if problem is None or not problem.code:
        return CtlError(
            "not_an_endpoint", f"{where} answers with status {reply.status} and no explanation", status=reply.status
        )
    leader = (problem.leader.id, problem.leader.management) if problem.leader is not None else None
    return CtlError(
        problem.code,
        printable(problem.detail or problem.title),
        hint=printable(problem.hint or ""),
        rule_ids=problem.rule_ids,
        status=reply.status,
        leader=leader,
        measured=problem.measured,
    )


def _expectation(expect: Expect | None) -> dict[str, object]:
    return {} if expect is None else {"expect": msgspec.to_builtins(expect)}


def _condition(revision: int | None, *, create: bool) -> dict[str, str]:
    if create:
        return {"if-none-match": "*"}
    return {} if revision is None else {"if-match": f'"{revision}"'}


def _escaped(key: bytes) -> str:
    """Escape everything but letters and digits: a key named `..` must not become a path."""
    return "".join(chr(byte) if chr(byte).isascii() and chr(byte).isalnum() else f"%{byte:02X}" for byte in key)


def _duration(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
