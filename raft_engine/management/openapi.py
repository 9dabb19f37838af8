"""The description of the endpoint at `/openapi.json`, made from the tables that run it.

Source: OpenAPI 3.1; RFC 9457.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Any, Final

import msgspec

from raft_engine.management import schema
from raft_engine.management.access import Role
from raft_engine.management.endpoint import Call, Endpoint
from raft_engine.management.exchange import Reply
from raft_engine.management.kv_routes import KV_ENDPOINTS, KeyValueEndpoint
from raft_engine.management.problems import PROBLEM_JSON, PROBLEMS
from raft_engine.management.routes import ENDPOINTS

_REF: Final = "#/components/schemas/{name}"
_ANY_REQUEST: Final = (
    "malformed",
    "unknown_parameter",
    "unauthorized",
    "forbidden",
    "host_refused",
    "origin_refused",
    "headers_too_large",
    "internal",
    "too_many_connections",
)
"""What any request can meet."""
_ANY_BODY: Final = ("too_large", "unsupported_media_type")
_ANY_MUTATION: Final = ("idempotency_key_in_use", "idempotency_key_reused")

_PARAMETERS: Final[dict[str, str]] = {
    "since": "The ETag of the status the caller has.",
    "wait": "How long to wait for the effect: 500ms, 5s, 2m or 0. Default 5s; for a long poll 0.",
    "forward": "redirect: a node that does not lead answers 307 with the leader's address.",
    "at": "Index of the entry that marked the digest (POST /v1/barrier with digest).",
    "consistency": "linearizable (default), lease or stale.",
    "timeout": "How long the answer may take: 500ms, 5s. Default 5s.",
    "prefix": "Only keys that begin with this.",
    "limit": "At most so many items; default 100.",
    "after": "Only keys after this one: `next` of the reply before.",
    "prefix_base64": "The same as prefix, for keys that are not UTF-8.",
    "after_base64": "The same as after, for keys that are not UTF-8: `next_base64` of the reply before.",
}
_HEADERS: Final[dict[str, str]] = {
    "X-Raft-Node": "The answering node.",
    "X-Raft-Term": "Its term.",
    "X-Raft-Leader": "The leader it knows; 0: none.",
    "X-Raft-Applied": "Index of the last entry it applied.",
}


async def describe(_call: Call) -> Reply:
    return Reply(200, description_json())


DESCRIPTION: Final = Endpoint(
    method="GET",
    path="/openapi.json",
    role=Role.READ,
    summary="This description.",
    handle=describe,
    replies={200: "application/json"},
)


@cache
def description_json() -> bytes:
    return msgspec.json.encode(description())


def description() -> dict[str, Any]:
    """Return the OpenAPI document."""
    rows: list[Endpoint | KeyValueEndpoint] = [*ENDPOINTS, DESCRIPTION, *KV_ENDPOINTS]
    types = {kind for row in rows for kind in (row.request, *row.replies.values()) if isinstance(kind, type)}
    types.add(schema.Problem)
    ordered = sorted(types, key=lambda kind: kind.__name__)
    references, components = msgspec.json.schema_components(ordered, ref_template=_REF)
    reference_of = dict(zip(ordered, references, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for row in rows:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row, reference_of)
    return {
        "openapi": "3.1.0",
        "info": {"title": "raft-engine management endpoint and key-value API", "version": "1"},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "headers": {
                name: {"description": text, "schema": {"type": "integer"}} for name, text in sorted(_HEADERS.items())
            },
        },
    }


def _operation(row: Endpoint | KeyValueEndpoint, reference_of: dict[type, dict[str, Any]]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{row.method.lower()}{re.sub('[^a-z0-9]+', '_', row.path)}".rstrip("_"),
        "summary": row.summary,
        "x-role": str(row.role),
        "security": [] if row.role is Role.OPEN else [{"token": []}],
        "parameters": _parameters(row),
        "responses": {
            **{str(status): _success(kind, reference_of) for status, kind in row.replies.items()},
            **_problems(row, reference_of[schema.Problem]),
        },
    }
    if isinstance(row.request, type):
        content = {"application/json": {"schema": reference_of[row.request]}}
        operation["requestBody"] = {"required": False, "content": content}
    elif row.request:
        operation["requestBody"] = {"required": True, "content": {row.request: {"schema": {}}}}
    return operation


def _parameters(row: Endpoint | KeyValueEndpoint) -> list[dict[str, Any]]:
    text = {"type": "string"}
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": text} for name in re.findall(r"{(\w+)}", row.path)
    ]
    found += [{"name": name, "in": "query", "description": _PARAMETERS[name], "schema": text} for name in row.query]
    headers = list(row.headers) if isinstance(row, KeyValueEndpoint) else []
    if row.mutates:
        headers.append("Idempotency-Key")
    return found + [{"name": name, "in": "header", "schema": text} for name in headers]


def _success(kind: type | str, reference_of: dict[type, dict[str, Any]]) -> dict[str, Any]:
    reply: dict[str, Any] = {
        "description": "As asked." if kind else "Nothing new.",
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in sorted(_HEADERS)},
    }
    if isinstance(kind, type):
        reply["content"] = {"application/json": {"schema": reference_of[kind]}}
    elif kind:
        reply["content"] = {kind: {"schema": {}}}
    return reply


def _problems(row: Endpoint | KeyValueEndpoint, reference: dict[str, Any]) -> dict[str, Any]:
    """Return one response per status, naming the codes it can have."""
    codes: Iterable[str] = (
        *row.codes,
        *_ANY_REQUEST,
        *(_ANY_BODY if row.request else ()),
        *(_ANY_MUTATION if row.mutates else ()),
    )
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(PROBLEMS[code].status, []).append(code)
    if row.mutates:
        by_status.setdefault(307, []).append("not_leader")
    return {
        str(status): {
            "description": "; ".join(f"`{code}`: {PROBLEMS[code].title}" for code in sorted(set(names))),
            "content": {PROBLEM_JSON.decode(): {"schema": reference}},
        }
        for status, names in sorted(by_status.items())
    }
