"""Holding what nodes have against each other: at one entry, as whoever still writes may be one entry further on one of them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from tests.acceptance.cluster import Node, read_all, wait_until


@dataclass(frozen=True)
class Contents:
    """All that a node has applied up to entry `index`; the digest is the node's own word for it."""

    node_id: int
    index: int
    digest: str
    values: dict[str, str]


def contents(node: Node) -> Contents | None:
    """Return what the node has by itself, None if it went on meanwhile."""
    before = digest(node)
    values = read_all(node, "", "stale")
    return Contents(node.node_id, *before, values) if before == digest(node) else None


def digest(node: Node) -> tuple[int, str]:
    reply = node.client.get("/v1/digest", params={"wait": "30s"})
    assert reply.status_code == 200, reply.text
    return reply.json()["index"], reply.json()["digest"]


def assert_equal_contents(nodes: Sequence[Node]) -> None:
    """Wait until all are at one entry (nobody writes any more but what runs out); there they must have the same."""

    def at_one_entry() -> list[Contents] | None:
        found = [there for node in nodes if (there := contents(node)) is not None]
        return found if len(found) == len(nodes) and len({there.index for there in found}) == 1 else None

    first, *others = wait_until(at_one_entry, f"nodes {[node.node_id for node in nodes]} at one entry")
    for other in others:
        assert (other.node_id, other.index, differing(first.values, other.values)) == (other.node_id, first.index, {})
        assert (other.node_id, first.digest) == (other.node_id, other.digest)


def differing(left: dict[str, str], right: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Return the keys whose values differ, with both: `missing`, or how it begins."""
    return {
        key: (brief(left.get(key)), brief(right.get(key)))
        for key in sorted({*left, *right})
        if left.get(key) != right.get(key)
    }


def brief(value: str | None) -> str:
    """Return how a value in base64 begins, for people."""
    if value is None:
        return "missing"
    plain = base64.b64decode(value)
    return repr(plain[:40]) + (f"… ({len(plain)} bytes)" if len(plain) > 40 else "")
