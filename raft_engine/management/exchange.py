"""One request as it came, one reply as it goes: headers, query, body and the four X-Raft headers.

Everything that reads what a client sent is here, so that every door treats it alike: a header given twice, a query
parameter nobody knows, a body that is too long or never ends.
Source: contract section 2; ASGI specification 3.0; RFC 9110.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, MutableMapping
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec

from raft_engine.management.access import Role, Security
from raft_engine.management.problems import PROBLEM_JSON, ProblemError, malformed, problem_body, problem_headers
from raft_engine.types.ids import NOBODY
from raft_engine.types.metrics import RaftMetrics
from raft_engine.types.unreadable import UNREADABLE

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
HeaderList = list[tuple[bytes, bytes]]

JSON: Final = b"application/json"
JSON_BODY_BYTES_MAX: Final = 1024 * 1024
WAIT_S_MAX: Final = 600.0
"""Nobody's connection is held for longer."""
DEFAULT_WAIT_S: Final = 5.0

_DURATION: Final = re.compile(rb"(\d{1,9}(?:\.\d{1,6})?)(ms|s|m)")
_UNIT_S: Final = {b"ms": 0.001, b"s": 1.0, b"m": 60.0}
_BROKEN_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_IDEMPOTENCY_KEY: Final = re.compile(rb"[\x21-\x7e]{1,255}")

_encode: Final = msgspec.json.Encoder().encode

T = TypeVar("T")


class ClientGoneError(Exception):
    """The client closed its connection before its request was complete; nobody reads a reply."""


class Reply(NamedTuple):
    """A whole reply, except for what every reply carries."""

    status: int
    body: bytes = b""
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()
    stream: AsyncIterator[bytes] | None = None
    """Sent piece by piece instead of `body`, for as long as the client stays."""


class Fields(msgspec.Struct):
    """The request headers that mean something here; None: not sent."""

    host: bytes | None = None
    origin: bytes | None = None
    authorization: bytes | None = None
    content_type: bytes | None = None
    content_length: bytes | None = None
    idempotency_key: bytes | None = None
    if_match: bytes | None = None
    if_none_match: bytes | None = None
    last_event_id: bytes | None = None


_FIELD_OF: Final = {name.replace("_", "-").encode(): name for name in Fields.__struct_fields__}


def read_fields(headers: HeaderList) -> Fields:
    """Return the headers that mean something.

    Raises: ProblemError: one of them came twice, so that two readers could see two requests.
    """
    fields = Fields()
    for name, value in headers:
        attribute = _FIELD_OF.get(name)
        if attribute is None:
            continue
        if getattr(fields, attribute) is not None:
            raise malformed(f"the header {name.decode()} came twice")
        setattr(fields, attribute, value)
    return fields


def admit_origin(security: Security, fields: Fields) -> None:
    """Refuse what a browser sent for a page, and what was meant for another host.

    Raises: ProblemError.
    """
    if fields.origin is not None:
        raise ProblemError("origin_refused", "the request has an Origin header; web pages may not use this endpoint")
    if fields.host is None:
        raise malformed("the request has no Host header")
    if not security.answers_for(fields.host.decode("latin-1")):
        raise ProblemError(
            "host_refused",
            "the Host header names a host this endpoint does not answer for",
            hint="use an advertised address, or add the name to security.allowed_hosts of the node file",
        )


def admit_role(security: Security, fields: Fields, needed: Role) -> None:
    """Refuse a request whose token may not do this. Without any configured token everybody may.

    Raises: ProblemError.
    """
    if not security.tokens or needed is Role.OPEN:
        return
    scheme, _, token = (fields.authorization or b"").partition(b" ")
    role = security.role_of(token.strip()) if scheme.lower() == b"bearer" else None
    if role is None:
        raise ProblemError(
            "unauthorized",
            "the request has no token that this node knows",
            hint="send it as: Authorization: Bearer TOKEN",
            headers=((b"www-authenticate", b"Bearer"),),
        )
    if role < needed:
        raise ProblemError("forbidden", f"the token's role is {role}, this needs {needed}")


def read_query(query_string: bytes, known: Collection[str]) -> dict[str, bytes]:
    """Return the query's parameters, unescaped.

    Raises: ProblemError: one is unknown, came twice, or has a broken escape.
    """
    if not query_string:
        return {}
    values: dict[str, bytes] = {}
    for part in query_string.split(b"&"):
        raw_name, _, raw_value = part.partition(b"=")
        if not part:
            continue
        name = unescape(raw_name.replace(b"+", b" "), "the query").decode("utf-8", "replace")
        if name not in known:
            raise ProblemError(
                "unknown_parameter",
                f"{printable(name)} is not a query parameter here",
                hint=f"known: {', '.join(sorted(known))}" if known else "there is none here",
            )
        if name in values:
            raise malformed(f"the query parameter {name} came twice")
        values[name] = unescape(raw_value.replace(b"+", b" "), f"the query parameter {name}")
    return values


def unescape(value: bytes, where: str) -> bytes:
    """Return URL-escaped bytes as they were meant.

    Raises: ProblemError: a % without two hex digits.
    """
    if b"%" not in value:
        return value
    if _BROKEN_ESCAPE.search(value):
        raise malformed(f"{where} has a % without two hex digits behind it")
    return unquote_to_bytes(value)


def printable(text: str) -> str:
    """Return what a client sent, fit for being quoted to a person: short, and without control characters."""
    return ascii(text[:64])


def parse_duration(value: bytes, name: str) -> float:
    """Return the seconds of `5s`, `500ms`, `2m` or `0`.

    Raises: ProblemError.
    """
    if value == b"0":
        return 0.0
    match = _DURATION.fullmatch(value)
    if match is None:
        raise malformed(f"{name}={printable(value.decode('latin-1'))} is not a duration", "write 500ms, 5s, 2m or 0")
    seconds = float(match[1]) * _UNIT_S[match[2]]
    if seconds > WAIT_S_MAX:
        raise malformed(f"{name} is longer than {WAIT_S_MAX:.0f}s", "ask again when it has passed")
    return seconds


def parse_count(value: bytes, name: str, least: int, most: int) -> int:
    """Return a whole number between `least` and `most`.

    Raises: ProblemError.
    """
    if value.isdigit() and len(value) <= len(str(most)) and least <= int(value) <= most:
        return int(value)
    raise malformed(f"{name}={printable(value.decode('latin-1'))} is not a whole number from {least} to {most}")


def wants_redirect(query: dict[str, bytes]) -> bool:
    """Return whether `?forward=redirect` was asked for.

    Raises: ProblemError: another word than that.
    """
    forward = query.get("forward")
    if forward is not None and forward != b"redirect":
        raise malformed(f"forward={printable(forward.decode('latin-1'))} is not redirect")
    return forward is not None


def parse_text(value: bytes, name: str) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise malformed(f"{name} is not UTF-8") from error


def idempotency_key(fields: Fields) -> bytes | None:
    """Return the Idempotency-Key.

    Raises: ProblemError: it is not 1 to 255 visible ASCII characters.
    """
    key = fields.idempotency_key
    if key is not None and _IDEMPOTENCY_KEY.fullmatch(key) is None:
        raise malformed("the Idempotency-Key must be 1 to 255 visible ASCII characters")
    return key


async def read_body(receive: Receive, fields: Fields, bytes_max: int) -> bytes:
    """Return the request's body. A slow one is cut off by `connection.Connection`.

    Raises: ProblemError: more than `bytes_max`; no more than that is ever kept. ClientGoneError.
    """
    declared = fields.content_length
    if declared is not None and (len(declared) > 18 or int(declared) > bytes_max):
        raise _too_large(bytes_max)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        part: bytes = message["body"]
        size += len(part)
        if size > bytes_max:
            raise _too_large(bytes_max)
        if not message["more_body"]:
            return b"".join((*parts, part)) if parts else part
        parts.append(part)


def _too_large(bytes_max: int) -> ProblemError:
    return ProblemError("too_large", f"the body is longer than {bytes_max} bytes", measured={"bytes_max": bytes_max})


def decode_json(body: bytes, fields: Fields, decoder: msgspec.json.Decoder[T]) -> T:
    """Return a JSON body. No body at all is `{}`: not every action needs words.

    Raises: ProblemError: another content type, not JSON, an unknown field, a wrong type or value.
    """
    if body or fields.content_type is not None:
        media_type = (fields.content_type or b"").partition(b";")[0].strip().lower()
        if media_type != JSON:
            raise ProblemError(
                "unsupported_media_type",
                f"the content type is {printable(media_type.decode('latin-1')) if media_type else 'missing'}",
                hint="send the header Content-Type: application/json",
            )
    try:
        return decoder.decode(body or b"{}")
    except UNREADABLE as error:
        # The decoder quotes the client's names; whatever is in them must fit into a reply.
        quoted = str(error)[:300].encode("utf-8", "replace").decode()
        raise malformed(f"the body is not what this path takes: {quoted}") from error


def json_reply(value: object, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Reply:
    return Reply(status, _encode(value), JSON, headers)


def problem_reply(problem: ProblemError, metrics: RaftMetrics) -> Reply:
    return Reply(problem.status, _encode(problem_body(problem, metrics)), PROBLEM_JSON, tuple(problem_headers(problem)))


def standing_headers(metrics: RaftMetrics) -> HeaderList:
    """Return what every reply says of this node, but for X-Raft-Applied. X-Raft-Leader 0: nobody is known to lead."""
    return [
        (b"x-raft-node", b"%d" % metrics.me.node_id),
        (b"x-raft-term", b"%d" % metrics.term),
        (b"x-raft-leader", b"%d" % (metrics.leader or NOBODY)),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]


async def send_reply(send: Send, reply: Reply, standing: HeaderList) -> None:
    """Send a whole reply."""
    headers = [*standing, *reply.headers]
    if reply.status != 304:
        headers += ((b"content-type", reply.content_type), (b"content-length", b"%d" % len(reply.body)))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


async def send_stream(receive: Receive, send: Send, reply: Reply, standing: HeaderList) -> None:
    """Send a reply that goes on until its stream ends or the client has gone."""
    assert reply.stream is not None
    headers = [*standing, *reply.headers, (b"content-type", reply.content_type)]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    gone = asyncio.ensure_future(_gone(receive))
    pieces = aiter(reply.stream)
    try:
        while True:
            piece = asyncio.ensure_future(_next(pieces))
            await asyncio.wait((piece, gone), return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                piece.cancel()
                await asyncio.wait((piece,))
                return
            data = piece.result()
            if data is None:
                break
            await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        gone.cancel()


async def _next(pieces: AsyncIterator[bytes]) -> bytes | None:
    return await anext(pieces, None)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
