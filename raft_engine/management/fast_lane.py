"""The short way for plain key-value requests: one look at the bytes, one call into the engine, one write back.

Nearly every request of a busy client is `PUT` or `GET /v1/kv/{key}` with headers that it repeats unchanged. Such a request needs
no parser object, no task, no future and no timer: a header block that was read once is known by its bytes.

Rules.
- Only what is beyond doubt is taken: one spelling of the request line, headers that change nothing, each once, a declared
  length. Whatever else arrives goes, byte for byte, to the parser and the application, which also word every refusal.
- Replies leave in the order of the requests; a request of another method, or one that goes the other way, waits until all
  before it are answered.
- What is answered here differs from the long way in nothing but time (held by tests/management/test_fast_lane.py).
Source: own measurements (a protocol class on the bytes is several times as fast as ASGI); RFC 9112.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from raft_engine.kv.commands import KEY_BYTES_MAX, VALUE_BYTES_MAX, Applied, encode_put
from raft_engine.management.access import Role, Security
from raft_engine.management.context import Context
from raft_engine.management.convert import picture
from raft_engine.management.exchange import (
    DEFAULT_WAIT_S,
    HeaderList,
    Reply,
    admit_origin,
    admit_role,
    problem_reply,
    read_fields,
    unescape,
)
from raft_engine.management.kv_routes import (
    ITEM,
    OCTETS,
    check_has_data,
    found_reply,
    unreadable,
    write_timed_out,
    written_reply,
)
from raft_engine.management.problems import ProblemError, as_problem, left_unanswered, refusal_problem
from raft_engine.runtime.raft import Raft
from raft_engine.types.ids import Ticket
from raft_engine.types.outcomes import Outcome, ReadOutcome, Refusal, RefusalCode, WriteOutcome

HEAD_BYTES_MAX: Final = 8 * 1024
"""Longer heads go the long way; a key of 1,024 bytes fits with every byte escaped."""
BODY_BYTES_MAX: Final = 64 * 1024
"""Larger values go the long way: they are collected piece by piece there, and the way is not what they wait for."""
HEADS_MAX = 512
"""Header blocks that are remembered; a client has one or two."""
_HEAD_AGE_S: Final = 0.01

_PUT: Final = b"PUT /v1/kv/"
_GET: Final = b"GET /v1/kv/"
_TARGET_AT: Final = len(_PUT)
_VERSION: Final = b" HTTP/1.1\r\n"
_VERSION_BYTES: Final = len(_VERSION)
_KEY_LETTERS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@%/"
"""What a path segment may hold (RFC 3986 3.3), and the slash; no question mark."""
_PUT_DONE: Final = ("PUT", ITEM, 200)
_GET_DONE: Final = ("GET", ITEM, 200)
_FOUND: Final = (
    b'%%bx-raft-applied: %%d\r\netag: "%%d"\r\ncontent-type: %b\r\ncontent-length: %%d\r\n\r\n%%b' % OCTETS.encode()
)
"""A reply to a read, after the head of one with status 200."""
_LEASE: Final = b"?consistency=lease"
_STALE: Final = b"?consistency=stale"
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ ]?([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)")
_PLAIN: Final = {
    b"host",
    b"content-length",
    b"content-type",
    b"authorization",
    b"user-agent",
    b"accept",
    b"accept-encoding",
    b"accept-language",
    b"connection",
}
"""Headers that a plain request may have. `connection` only as keep-alive; those without meaning here are not looked at."""


class Head(NamedTuple):
    """A header block that was read: how long the body is (None: not said), and what its token may do."""

    content_length: int | None
    may_read: bool
    may_write: bool


class Request(msgspec.Struct, frozen=True, gc=False):
    """A whole plain request. `value` None: it is a read, as `consistency` says."""

    key: bytes
    value: bytes | None
    consistency: bytes
    end: int
    """Where the next request begins in the bytes it was found in."""


MORE: Final = Request(b"", None, b"", 0)
"""Not whole yet."""


class FastLane:
    """What all connections of one endpoint share. `default_headers` are uvicorn's: the date, kept up to date by it."""

    def __init__(self, context: Context, default_headers: Callable[[], HeaderList], now: Callable[[], float]) -> None:
        self.context = context
        self.now = now
        self._default_headers = default_headers
        self._security: Security | None = None
        self._heads: dict[bytes, Head] = {}
        self._ok = b""
        self._ok_until = 0.0

    # -- in ------------------------------------------------------------------------------------------------------------

    def find(self, data: bytes, at: int) -> Request | None:
        """Return the plain request that begins at `at`, `MORE` if it is not whole yet, None if it goes the long way."""
        is_put = data.startswith(_PUT, at)
        if not is_put and not data.startswith(_GET, at):
            return None
        head_end = data.find(b"\r\n\r\n", at, at + HEAD_BYTES_MAX)
        if head_end < 0:
            whole_lines = data.count(b"\n", at) == data.count(b"\r\n", at)
            return MORE if whole_lines and len(data) - at < HEAD_BYTES_MAX else None
        line_end = data.find(_VERSION, at, head_end + 2)
        if line_end < 0:
            return None
        block = data[line_end + _VERSION_BYTES : head_end + 2]
        head = self._heads.get(block) if self.context.node.security is self._security else None
        if head is None:
            head = self._new_head(block)
            if head is None:
                return None
        target = data[at + _TARGET_AT : line_end]
        body_at = head_end + 4
        if not is_put:
            return _get(target, head, body_at)
        length = head.content_length
        if length is None or length > BODY_BYTES_MAX or not head.may_write:
            return None
        key = target if target.isalnum() and len(target) <= KEY_BYTES_MAX else _key(target)
        if key is None:
            return None
        end = body_at + length
        return Request(key, data[body_at:end], b"", end) if len(data) >= end else MORE

    def _new_head(self, block: bytes) -> Head | None:
        """Read a header block that is not known yet, and remember it if it is a plain one."""
        security = self.context.node.security
        if security is not self._security:
            self._security = security
            self._heads.clear()
        head = _read_head(block, security)
        if head is not None:
            if len(self._heads) >= HEADS_MAX:
                self._heads.clear()
            self._heads[block] = head
        return head

    # -- out -----------------------------------------------------------------------------------------------------------

    def written(self, outcome: WriteOutcome) -> bytes:
        """Return the reply to a write that was applied."""
        result = outcome.result
        if type(result) is Applied and not result.duplicate:
            revision = result.revision
            body = b'{"log_id":{"term":%d,"node_id":%d,"index":%d},"revision":%d}' % (
                result.term,
                result.node_id,
                revision,
                revision,
            )
            self.context.requests[_PUT_DONE] += 1
            return b"%bx-raft-applied: %d\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
                self._ok if self.now() < self._ok_until else self._head_of_ok(),
                self.context.node.store.last_applied.index,
                len(body),
                body,
            )
        try:
            return self.whole("PUT", written_reply(outcome, None))
        except ProblemError as problem:
            return self.problem("PUT", problem)

    def read(self, key: bytes) -> bytes:
        """Return the reply to a read that may be served now."""
        store = self.context.node.store
        try:
            found = store.get(key)
            if found is None:
                return self.whole("GET", found_reply(None, None))
            value, revision = found
            self.context.requests[_GET_DONE] += 1
            return _FOUND % (self._head_of_ok(), store.last_applied.index, revision, len(value), value)
        except Exception as error:  # noqa: BLE001 (everything has an answer)
            return self.problem("GET", as_problem(error))

    def not_begun(self, method: str, error: Exception) -> bytes:
        """Return the reply to what the engine did not take. One that is gone says so first."""
        try:
            self.context.raft()
        except ProblemError as gone:
            return self.problem(method, gone)
        return self.problem(method, as_problem(error))

    def problem(self, method: str, problem: ProblemError) -> bytes:
        metrics = picture(self.context.node)
        return self.whole(method, problem_reply(problem, metrics), fresh=True)

    def whole(self, method: str, reply: Reply, *, fresh: bool = False) -> bytes:
        """Return a reply's bytes."""
        self.context.requests[method, ITEM, reply.status] += 1
        if reply.status == 200 and not fresh:
            front, applied = self._head_of_ok(), self.context.node.store.last_applied.index
            lines = b"%bx-raft-applied: %d\r\n%b" % (front, applied, _lines(reply.headers))
        else:
            lines = STATUS_LINE[reply.status] + _lines(self._default_headers()) + _lines(self.context.standing(fresh=True))
            lines += _lines(reply.headers)
        return b"%bcontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (
            lines,
            reply.content_type,
            len(reply.body),
            reply.body,
        )

    def _head_of_ok(self) -> bytes:
        """Return the beginning of a reply with status 200, a few milliseconds old at the most; X-Raft-Applied is missing."""
        now = self.now()
        if now >= self._ok_until:
            standing = self.context.standing()[:-1]
            self._ok = STATUS_LINE[200] + _lines(self._default_headers()) + _lines(standing)
            self._ok_until = now + _HEAD_AGE_S
        return self._ok


class Slot(msgspec.Struct, eq=False, gc=False):
    """One request under way: its place in the order of replies. `reply` None: not answered yet; `answered` is called when it is."""

    lane: FastLane
    answered: Callable[[], None]
    begun: float
    key: bytes
    is_read: bool
    reply: bytes | None = None
    raft: Raft | None = None
    ticket: Ticket | None = None

    @property
    def method(self) -> str:
        return "GET" if self.is_read else "PUT"

    def begin(self, request: Request) -> None:
        """Ask the engine. Whatever goes wrong becomes the reply."""
        context = self.lane.context
        try:
            self.raft = raft = context.node.raft or context.raft()
            value = request.value
            if value is not None:
                self.ticket = raft.submit_write(encode_put(request.key, value), self.written)
            elif request.consistency == _STALE:
                context.raft()  # what has failed serves nothing
                check_has_data(context.node)
                self._reply(self.lane.read(self.key))
            else:
                lease = request.consistency == _LEASE
                self.ticket = raft.submit_read(lease, DEFAULT_WAIT_S * 1000, self.readable)
        except Exception as error:  # noqa: BLE001 (everything has an answer)
            self._reply(self.lane.not_begun(self.method, error))

    def written(self, outcome: WriteOutcome | Refusal) -> None:
        if isinstance(outcome, Refusal):
            self.reply = self.lane.problem("PUT", refusal_problem(outcome))
        else:
            self.reply = self.lane.written(outcome)
        self.answered()

    def readable(self, outcome: Outcome) -> None:
        if isinstance(outcome, Refusal):
            self.reply = self.lane.problem("GET", unreadable(outcome))
        else:
            assert isinstance(outcome, ReadOutcome), outcome
            self.reply = self.lane.read(self.key)
        self.answered()

    def time_out(self) -> None:
        """Its time is up: what becomes of it is not known."""
        self.forget()
        if self.method == "PUT":
            problem = write_timed_out(DEFAULT_WAIT_S)
        else:
            detail = f"no leader confirmed the read within {DEFAULT_WAIT_S:g} s"
            problem = ProblemError(RefusalCode.TIMED_OUT.value, detail)
        self._reply(self.lane.problem(self.method, problem))

    def give_up(self) -> None:
        """The endpoint ends and waits no longer."""
        self.forget()
        self._reply(self.lane.problem(self.method, left_unanswered(self.method)))

    def forget(self) -> None:
        """Nobody waits for the engine's answer any more."""
        if self.raft is not None and self.ticket is not None:
            self.raft.forget(self.ticket)

    def _reply(self, reply: bytes) -> None:
        self.reply = reply
        self.answered()


def _lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def _get(target: bytes, head: Head, body_at: int) -> Request | None:
    if head.content_length or not head.may_read:
        return None
    consistency = b""
    if b"?" in target:
        for known in (_LEASE, _STALE):
            if target.endswith(known):
                consistency, target = known, target[: -len(known)]
    key = _key(target)
    return None if key is None else Request(key, None, consistency, body_at)


def _key(target: bytes) -> bytes | None:
    """Return the key that the rest of a path names, None if that is not as plain as can be."""
    if target.translate(None, _KEY_LETTERS):
        return None
    if b"%" in target:
        try:
            target = unescape(target, "the key")
        except ProblemError:
            return None
    return target if 1 <= len(target) <= KEY_BYTES_MAX else None


def _read_head(block: bytes, security: Security) -> Head | None:
    """Return what a header block says, None if anything in it asks for more than a look."""
    headers: HeaderList = []
    for line in block.split(b"\r\n")[:-1]:
        match = _HEADER.fullmatch(line)
        if match is None:
            return None
        headers.append((match[1].lower(), match[2]))
    values = dict(headers)
    if len(values) < len(headers) or not values.keys() <= _PLAIN:
        return None
    if values.get(b"connection", b"keep-alive").lower() != b"keep-alive":
        return None
    length = values.get(b"content-length")
    if length is not None and (not length.isdigit() or len(length) > len(str(VALUE_BYTES_MAX))):
        return None
    try:
        fields = read_fields(headers)
        admit_origin(security, fields)
    except ProblemError:
        return None

    def may(role: Role) -> bool:
        try:
            admit_role(security, fields, role)
        except ProblemError:
            return False
        return True

    return Head(None if length is None else int(length), may(Role.READ), may(Role.OPERATE))
