"""One ASGI application for both doors: management paths by Starlette's router, key-value paths straight to their handlers.

Whatever goes wrong on the way ends here, once: as a problem the client can read, or as a line in the log.
Source: ASGI specification 3.0; contract section 2.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.routing import Route, Router

from raft_engine.management.cluster import Members
from raft_engine.management.context import Context
from raft_engine.management.control import NodeControl
from raft_engine.management.convert import leader_body, picture
from raft_engine.management.endpoint import Call, Endpoint
from raft_engine.management.events import EventLog
from raft_engine.management.exchange import (
    JSON_BODY_BYTES_MAX,
    ClientGoneError,
    HeaderList,
    Receive,
    Reply,
    Scope,
    Send,
    admit_origin,
    admit_role,
    decode_json,
    idempotency_key,
    parse_duration,
    problem_reply,
    read_body,
    read_fields,
    read_query,
    send_reply,
    send_stream,
    wants_redirect,
)
from raft_engine.management.kv_routes import KeyValueRoutes
from raft_engine.management.openapi import DESCRIPTION
from raft_engine.management.problems import ProblemError, as_problem, left_unanswered
from raft_engine.management.routes import ENDPOINTS
from raft_engine.types.outcomes import RefusalCode

NOT_MATCHED: Final = "none"
"""The route under which requests are counted that match none."""


class ManagementApp:
    """The application. `members` is closed by whoever runs it."""

    def __init__(self, node: NodeControl) -> None:
        self.context: Final = Context(node)
        self.members: Final = Members()
        self.events: Final = EventLog(self.context)
        self._key_values = KeyValueRoutes(self.context)
        rows = [_Row(self, endpoint) for endpoint in (*ENDPOINTS, DESCRIPTION)]
        self._router = Router(
            [Route(row.endpoint.path.replace("{id}", "{id:int}"), row, methods=[row.endpoint.method]) for row in rows],
            redirect_slashes=False,
        )

    def standing(self) -> HeaderList:
        return self.context.standing()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", scope["type"]
        scope["counted_as"] = NOT_MATCHED
        try:
            scope["fields"] = fields = read_fields(scope["headers"])
            admit_origin(self.context.node.security, fields)
            if self._key_values.takes(scope["raw_path"]):
                reply = await self._key_values.answer(scope, receive, fields)
                await self.reply(scope, send, reply, self.context.standing())
            else:
                scope["app"] = self  # the router then raises what it does not know instead of answering in plain text
                await self._router(scope, receive, send)
        except ClientGoneError:
            return
        except asyncio.CancelledError:
            if not self.context.stopping:
                raise
            # The server ends and waits no longer; the caller is told instead of being cut off.
            await self._reply_problem(scope, send, left_unanswered(scope["method"]))
        except HTTPException as error:
            await self._reply_problem(scope, send, _unrouted(scope, error))
        except Exception as error:  # noqa: BLE001 (the last resort: everything has an answer)
            await self._reply_problem(scope, send, as_problem(error))

    async def reply(self, scope: Scope, send: Send, reply: Reply, standing: HeaderList) -> None:
        self.count(scope, reply)
        await send_reply(send, reply, standing)

    def count(self, scope: Scope, reply: Reply) -> None:
        self.context.requests[scope["method"], scope["counted_as"], reply.status] += 1

    def count_refused(self, status: int) -> None:
        """Count a reply that was given before there was a request: too many connections, no HTTP."""
        self.context.requests["-", NOT_MATCHED, status] += 1

    async def close(self) -> None:
        """End streams and connections to other members."""
        await self.events.close()
        await self.members.close()

    async def _reply_problem(self, scope: Scope, send: Send, problem: ProblemError) -> None:
        metrics = picture(self.context.node)
        if problem.code == RefusalCode.NOT_LEADER and scope.get("redirect"):
            leader = leader_body(metrics, problem.leader or metrics.leader)
            if leader is not None and leader.management is not None:
                _redirect(problem, leader.management, scope)
        await self.reply(scope, send, problem_reply(problem, metrics), self.context.standing(fresh=True))


class _Row:
    """The ASGI application of one row of the table."""

    def __init__(self, app: ManagementApp, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._app = app
        self._decoder = msgspec.json.Decoder(endpoint.request or msgspec.Struct)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self.endpoint
        scope["counted_as"] = endpoint.path
        fields = scope["fields"]
        app = self._app
        admit_role(app.context.node.security, fields, endpoint.role)
        query = read_query(scope["query_string"], endpoint.query)
        scope["redirect"] = wants_redirect(query)
        wait_s = parse_duration(query["wait"], "wait") if "wait" in query else endpoint.default_wait_s
        call = Call(app.context, app.members, app.events, None, query, scope["path_params"], fields, wait_s)
        if endpoint.mutates:
            reply = await self._mutate(scope, await read_body(receive, fields, JSON_BODY_BYTES_MAX), call)
        else:
            reply = await endpoint.handle(call)
        if reply.stream is not None:
            app.count(scope, reply)
            await send_stream(receive, send, reply, app.context.standing(fresh=True))
            return
        await app.reply(scope, send, reply, app.context.standing(fresh=True))

    async def _mutate(self, scope: Scope, body: bytes, call: Call) -> Reply:
        call = msgspec.structs.replace(call, body=decode_json(body, call.fields, self._decoder))
        key = idempotency_key(call.fields)
        if key is None:
            return await self.endpoint.handle(call)
        replays = call.context.replays
        reply = replays.begin(key, self.endpoint.method.encode(), scope["raw_path"], scope["query_string"], body)
        if reply is not None:
            return reply
        try:
            reply = await self.endpoint.handle(call)
        finally:
            replays.end(key, reply)
        return reply


def _redirect(problem: ProblemError, management: str, scope: Scope) -> None:
    query: bytes = scope["query_string"]
    location = management.rstrip("/").encode() + scope["raw_path"] + (b"?" + query if query else b"")
    problem.status = 307
    problem.headers = ((b"location", location),)


def _unrouted(scope: Scope, error: HTTPException) -> ProblemError:
    """What the router found: no such path, or not with this method."""
    if error.status_code == 405:
        allowed = sorted((error.headers or {}).get("Allow", "").split(", "))
        detail = f"{scope['method']} is not a method of this path"
        return ProblemError("method_not_allowed", detail, headers=((b"allow", ", ".join(allowed).encode()),))
    return ProblemError("not_found", "there is no such path", hint="GET /openapi.json lists all of them")
