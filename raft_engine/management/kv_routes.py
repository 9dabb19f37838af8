"""The key-value API: the hot path, nothing between the ASGI call and the engine's inbox.

No router and no response object: the path is cut by hand, headers are read in one pass, and a write costs one future and one
timer. Limits and refusals are those of every other path.
Source: contract section 4; RFC 9110 13 (conditional requests).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from raft_engine.kv.commands import (
    KEY_BYTES_MAX,
    VALUE_BYTES_MAX,
    Applied,
    BadCommand,
    Check,
    Condition,
    ConditionFailed,
    Delete,
    Put,
    encode_delete,
    encode_operations,
    encode_put,
)
from raft_engine.management import schema
from raft_engine.management.access import Role
from raft_engine.management.context import Context
from raft_engine.management.control import NodeControl
from raft_engine.management.convert import picture
from raft_engine.management.exchange import (
    DEFAULT_WAIT_S,
    Fields,
    Receive,
    Reply,
    Scope,
    admit_role,
    decode_json,
    idempotency_key,
    json_reply,
    parse_count,
    parse_duration,
    printable,
    read_body,
    read_query,
    unescape,
    wants_redirect,
)
from raft_engine.management.problems import IF_IT_LASTS, ProblemError, malformed, refusal_problem
from raft_engine.runtime.raft import Raft
from raft_engine.types.bootstrap import BirthState
from raft_engine.types.ids import Ticket
from raft_engine.types.outcomes import Outcome, ReadOutcome, Refusal, RefusalCode, WriteOutcome

COLLECTION: Final = "/v1/kv"
ITEM: Final = "/v1/kv/{key}"
_COLLECTION_PATH: Final = COLLECTION.encode()
_ITEM_PREFIX: Final = _COLLECTION_PATH + b"/"

OPERATIONS_BODY_BYTES_MAX: Final = 8 * 1024 * 1024
"""Of POST /v1/kv: a few values of full size, or as many operations as are allowed with values of a usual one."""
LIST_DEFAULT: Final = 100
LIST_MAX: Final = 1000
LIST_BYTES_MAX: Final = 4 * 1024 * 1024
"""A page ends earlier when its values are longer than this together."""
OCTETS: Final = "application/octet-stream"

_WRITE_QUERY: Final = ("timeout", "forward")
_READ_QUERY: Final = ("consistency", "timeout")
_LIST_QUERY: Final = ("prefix", "limit", "after", "prefix_base64", "after_base64", *_READ_QUERY)
_CONSISTENCIES: Final = (b"linearizable", b"lease", b"stale")


class KeyValueEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the description; the routing itself is `KeyValueRoutes.answer`."""

    method: str
    path: str
    role: Role
    summary: str
    request: type[msgspec.Struct] | str | None = None
    query: tuple[str, ...]
    headers: tuple[str, ...] = ()
    replies: dict[int, type[msgspec.Struct] | str]
    codes: tuple[str, ...]

    @property
    def mutates(self) -> bool:
        return self.method != "GET"


_WRITE_CODES: Final = (
    "not_leader",
    "no_leader",
    "no_quorum",
    "precondition_failed",
    "overloaded",
    "outcome_unknown",
    "transfer_in_progress",
    "blank",
    "raft_stopped",
    "shutting_down",
)
_READ_CODES: Final = ("no_leader", "no_quorum", "recovering", "blank", "timed_out", "raft_stopped", "shutting_down")

KV_ENDPOINTS: Final = (
    KeyValueEndpoint(
        method="PUT",
        path=ITEM,
        role=Role.OPERATE,
        summary="Write a value; answered when it is on the disks of a quorum and applied here.",
        request=OCTETS,
        query=_WRITE_QUERY,
        headers=("If-Match", "If-None-Match"),
        replies={200: schema.WriteReply},
        codes=_WRITE_CODES,
    ),
    KeyValueEndpoint(
        method="GET",
        path=ITEM,
        role=Role.READ,
        summary="Read a value; its revision is the ETag.",
        query=_READ_QUERY,
        headers=("If-None-Match",),
        replies={200: OCTETS, 304: ""},
        codes=("key_not_found", *_READ_CODES),
    ),
    KeyValueEndpoint(
        method="DELETE",
        path=ITEM,
        role=Role.OPERATE,
        summary="Delete a key, whether it is there or not.",
        query=_WRITE_QUERY,
        headers=("If-Match",),
        replies={200: schema.WriteReply},
        codes=_WRITE_CODES,
    ),
    KeyValueEndpoint(
        method="GET",
        path=COLLECTION,
        role=Role.READ,
        summary="List keys with their values, in order of their bytes.",
        query=_LIST_QUERY,
        replies={200: schema.KeyValueList},
        codes=_READ_CODES,
    ),
    KeyValueEndpoint(
        method="POST",
        path=COLLECTION,
        role=Role.OPERATE,
        summary="Do several operations as one atomic entry.",
        request=schema.OperationsRequest,
        query=_WRITE_QUERY,
        replies={200: schema.WriteReply},
        codes=_WRITE_CODES,
    ),
)
_ROLE: Final = {(row.method, row.path): row.role for row in KV_ENDPOINTS}
_ALLOW: Final = {
    path: ", ".join(sorted([row.method for row in KV_ENDPOINTS if row.path == path] + ["HEAD"])).encode()
    for path in (COLLECTION, ITEM)
}


class KeyValueRoutes:
    """Answers what lies under /v1/kv."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._operations = msgspec.json.Decoder(schema.OperationsRequest)

    @staticmethod
    def takes(raw_path: bytes) -> bool:
        return raw_path.startswith(_ITEM_PREFIX) or raw_path == _COLLECTION_PATH

    async def answer(self, scope: Scope, receive: Receive, fields: Fields) -> Reply:
        """Return the whole reply.

        Raises: ProblemError, RaftError, ClientGoneError.
        """
        method: str = scope["method"]
        path = ITEM if len(scope["raw_path"]) > len(_COLLECTION_PATH) else COLLECTION
        scope["counted_as"] = path
        role = _ROLE.get(("GET" if method == "HEAD" else method, path))
        if role is None:
            raise ProblemError(
                "method_not_allowed", f"{method} is not a method of {path}", headers=((b"allow", _ALLOW[path]),)
            )
        admit_role(self._context.node.security, fields, role)
        if method == "PUT":
            return await self._put(scope, receive, fields)
        if method == "DELETE":
            return await self._delete(scope, fields)
        if method == "POST":
            return await self._operate(scope, receive, fields)
        if path is ITEM:
            return await self._get(scope, fields)
        return await self._list(scope)

    # -- writing -------------------------------------------------------------------------------------------------------

    async def _put(self, scope: Scope, receive: Receive, fields: Fields) -> Reply:
        key = _key_in_path(scope)
        timeout_s = _write_timeout_s(scope)
        condition = _condition(fields)
        repeat_key = idempotency_key(fields)
        data = encode_put(key, await read_body(receive, fields, VALUE_BYTES_MAX), condition, repeat_key)
        return written_reply(await self._write(data, timeout_s), repeat_key)

    async def _delete(self, scope: Scope, fields: Fields) -> Reply:
        key = _key_in_path(scope)
        timeout_s = _write_timeout_s(scope)
        repeat_key = idempotency_key(fields)
        data = encode_delete(key, _condition(fields), repeat_key)
        return written_reply(await self._write(data, timeout_s), repeat_key)

    async def _operate(self, scope: Scope, receive: Receive, fields: Fields) -> Reply:
        timeout_s = _write_timeout_s(scope)
        body = await read_body(receive, fields, OPERATIONS_BODY_BYTES_MAX)
        request = decode_json(body, fields, self._operations)
        repeat_key = idempotency_key(fields)
        try:
            data = encode_operations([_operation(operation) for operation in request.ops], repeat_key)
        except ValueError as error:
            raise malformed(str(error)) from error
        self._context.check_expectation(request.expect)
        return written_reply(await self._write(data, timeout_s), repeat_key)

    async def _write(self, data: bytes, timeout_s: float) -> WriteOutcome:
        raft = self._context.raft()
        outcome = await _answered(raft, lambda done: raft.submit_write(data, done), timeout_s)
        if isinstance(outcome, Refusal):
            raise refusal_problem(outcome)
        if outcome is None:
            raise write_timed_out(timeout_s)
        assert isinstance(outcome, WriteOutcome), outcome
        return outcome

    # -- reading -------------------------------------------------------------------------------------------------------

    async def _get(self, scope: Scope, fields: Fields) -> Reply:
        key = _key_in_path(scope)
        await self._until_readable(read_query(scope["query_string"], _READ_QUERY))
        return found_reply(self._context.node.store.get(key), fields.if_none_match)

    async def _list(self, scope: Scope) -> Reply:
        query = read_query(scope["query_string"], _LIST_QUERY)
        prefix = _key_in_query(query, "prefix")
        after = _key_in_query(query, "after")
        limit = parse_count(query["limit"], "limit", 1, LIST_MAX) if "limit" in query else LIST_DEFAULT
        await self._until_readable(query)
        items, following = self._context.node.store.scan(prefix, after, limit)
        return json_reply(_page(items, following))

    async def _until_readable(self, query: dict[str, bytes]) -> None:
        """Return when the store may be read as the caller wants it."""
        consistency = query.get("consistency", b"linearizable")
        if consistency not in _CONSISTENCIES:
            word = printable(consistency.decode("latin-1"))
            raise malformed(f"consistency={word} is none of linearizable, lease, stale")
        timeout_s = parse_duration(query["timeout"], "timeout") if "timeout" in query else DEFAULT_WAIT_S
        raft = self._context.raft()
        if consistency == b"stale":
            check_has_data(self._context.node)
            return
        lease = consistency == b"lease"
        outcome = await _answered(raft, lambda done: raft.submit_read(lease, timeout_s * 1000, done), timeout_s)
        if isinstance(outcome, Refusal):
            raise unreadable(outcome)
        if outcome is None:
            raise ProblemError(RefusalCode.TIMED_OUT.value, f"no leader confirmed the read within {timeout_s:g} s")
        assert isinstance(outcome, ReadOutcome), outcome


async def _answered(
    raft: Raft, submit: Callable[[Callable[[Outcome | None], None]], Ticket], timeout_s: float
) -> Outcome | None:
    """Return the engine's answer, None if there is none when the time is up."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Outcome | None] = loop.create_future()

    def done(outcome: Outcome | None) -> None:
        if not answer.done():
            answer.set_result(outcome)

    ticket = submit(done)
    timer = loop.call_later(timeout_s, done, None)
    outcome: Outcome | None = None
    try:
        outcome = await answer
    finally:
        timer.cancel()
        if outcome is None:
            raft.forget(ticket)
    return outcome


def written_reply(outcome: WriteOutcome, repeat_key: bytes | None) -> Reply:
    """Return the reply to what was applied: by this write or, with an Idempotency-Key, by the first one.

    Raises: ProblemError: a condition did not hold, or the key belongs to another command.
    """
    result = outcome.result
    if isinstance(result, Applied):
        body = b'{"log_id":{"term":%d,"node_id":%d,"index":%d},"revision":%d%s}' % (
            result.term,
            result.node_id,
            result.revision,
            result.revision,
            b',"duplicate":true' if result.duplicate else b"",
        )
        return Reply(200, body)
    if isinstance(result, ConditionFailed):
        raise _condition_failed(result)
    assert isinstance(result, BadCommand), f"the state machine returned {type(result).__name__}"
    # What is encoded here is well formed, so this is about the key.
    raise ProblemError("internal" if repeat_key is None else "idempotency_key_reused", result.detail)


def write_timed_out(timeout_s: float) -> ProblemError:
    return ProblemError(
        RefusalCode.OUTCOME_UNKNOWN.value,
        f"not committed within {timeout_s:g} s; it may yet be",
        hint=f"read the key, or repeat with the same Idempotency-Key; {IF_IT_LASTS}",
    )


def found_reply(found: tuple[bytes, int] | None, if_none_match: bytes | None) -> Reply:
    """Return the reply to a read.

    Raises: ProblemError: there is no such key.
    """
    if found is None:
        raise ProblemError("key_not_found", "there is no such key")
    value, revision = found
    etag = b'"%d"' % revision
    headers = ((b"etag", etag),)
    if if_none_match == etag:
        return Reply(304, headers=headers)
    return Reply(200, value, OCTETS.encode(), headers)


def check_has_data(node: NodeControl) -> None:
    """Even a stale read must not tell that everything is gone when the node merely has not got it yet.

    Raises: ProblemError.
    """
    metrics = picture(node)
    if metrics.recovery is not None:
        refusal = Refusal(RefusalCode.RECOVERING, f"the node is recovering until its log holds {metrics.recovery.until}")
        raise unreadable(refusal)
    if node.birth is not BirthState.STARTED:
        raise unreadable(Refusal(RefusalCode.BLANK, "the node belongs to no cluster yet"))


def unreadable(refusal: Refusal) -> ProblemError:
    """A node that has no data yet cannot serve a read: that passes, so it is a 503 (contract section 2), not a conflict."""
    problem = refusal_problem(refusal)
    if refusal.code in {RefusalCode.RECOVERING, RefusalCode.BLANK}:
        problem.status = 503
    return problem


def _condition_failed(result: ConditionFailed) -> ProblemError:
    now = "absent" if result.revision is None else f"at revision {result.revision}"
    return ProblemError(
        RefusalCode.PRECONDITION_FAILED.value,
        f"the key is {now}; nothing was written",
        hint="read the key, then decide again",
        headers=() if result.revision is None else ((b"etag", b'"%d"' % result.revision),),
        key=result.key.decode("utf-8", "replace"),
        revision=result.revision,
    )


def _write_timeout_s(scope: Scope) -> float:
    query_string: bytes = scope["query_string"]
    if not query_string:
        return DEFAULT_WAIT_S
    query = read_query(query_string, _WRITE_QUERY)
    scope["redirect"] = wants_redirect(query)
    return parse_duration(query["timeout"], "timeout") if "timeout" in query else DEFAULT_WAIT_S


def _key_in_path(scope: Scope) -> bytes:
    key = unescape(scope["raw_path"][len(_ITEM_PREFIX) :], "the key")
    if not 1 <= len(key) <= KEY_BYTES_MAX:
        raise malformed(f"the key has {len(key)} bytes; 1 to {KEY_BYTES_MAX} are allowed")
    return key


def _key_in_query(query: dict[str, bytes], name: str) -> bytes:
    """Return the key (or the beginning of one) in `name` or `name`_base64; nothing given: the empty one."""
    plain = query.get(name)
    encoded = query.get(f"{name}_base64")
    if plain is not None and encoded is not None:
        raise malformed(f"give either {name} or {name}_base64")
    key = plain or b""
    if encoded is not None:
        try:
            key = msgspec.convert(encoded.decode("latin-1"), bytes)
        except msgspec.ValidationError as error:
            raise malformed(f"{name}_base64 is not base64") from error
    if len(key) > KEY_BYTES_MAX:
        raise malformed(f"{name} has {len(key)} bytes; no key has more than {KEY_BYTES_MAX}")
    return key


def _condition(fields: Fields) -> Condition | None:
    """Return what If-Match or If-None-Match ask for: a revision, or that the key is absent."""
    if fields.if_match is None and fields.if_none_match is None:
        return None
    if fields.if_match is not None and fields.if_none_match is not None:
        raise malformed("give either If-Match or If-None-Match")
    if fields.if_none_match is not None:
        if fields.if_none_match.strip() != b"*":
            raise malformed("If-None-Match of a write must be *", "it means: only if the key is absent")
        return Condition(absent=True)
    revision = (fields.if_match or b"").strip().strip(b'"')
    if not revision.isdigit() or len(revision) > 18:
        raise malformed("If-Match must be one revision", "send the ETag of a GET, or the revision of a PUT")
    return Condition(revision=int(revision))


def _operation(operation: schema.Operation) -> Put | Delete | Check:
    """Return the engine's operation.

    Raises: ValueError: no key, or two. ProblemError: a value that is too long.
    """
    key = operation.key_base64 if operation.key is None else operation.key.encode()
    if key is None or (operation.key is not None and operation.key_base64 is not None):
        raise ValueError("an operation needs either key or key_base64")
    match operation:
        case schema.PutOperation():
            if len(operation.value_base64) > VALUE_BYTES_MAX:
                detail = f"a value has {len(operation.value_base64)} bytes; at most {VALUE_BYTES_MAX} are allowed"
                raise ProblemError("too_large", detail, measured={"bytes_max": VALUE_BYTES_MAX})
            return Put(key, operation.value_base64)
        case schema.DeleteOperation():
            return Delete(key)
        case schema.CheckOperation():
            return Check(key, operation.revision)


def _page(found: Sequence[tuple[bytes, bytes, int]], following: bytes | None) -> schema.KeyValueList:
    """Return as much of a scan as fits into one reply."""
    items: list[schema.KeyValueItem] = []
    size = 0
    for key, value, revision in found:
        size += len(key) + len(value)
        if items and size > LIST_BYTES_MAX:
            following = found[len(items) - 1][0]
            break
        text, exact = _key_as_text(key)
        items.append(schema.KeyValueItem(text, value, revision, exact))
    if following is None:
        return schema.KeyValueList(items, None)
    return schema.KeyValueList(items, *_key_as_text(following))


def _key_as_text(key: bytes) -> tuple[str, bytes | None]:
    """Return a key for people and, if it is not UTF-8, its bytes."""
    try:
        return key.decode("utf-8"), None
    except UnicodeDecodeError:
        return key.decode("utf-8", "replace"), key
