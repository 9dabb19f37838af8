"""The JSON that programs parse: what was there once stays there, under its name and of its kind; more may come.

`json_shapes.json` has each command's document with kinds instead of values; its diff is what programs may rely on from then on.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raftctl.commands import doctor
from tests.raftctl.fake_cluster import log_id

RECORDED = json.loads((Path(__file__).parent / "json_shapes.json").read_text("utf-8"))
KINDS = {bool: "bool", int: "number", float: "number", str: "text", type(None): "null"}


def shape(value):
    """Kinds instead of values; a list has the shape of its first item; the keys of a map from ids are `*`."""
    if isinstance(value, dict):
        if value and all(key.isdecimal() for key in value):
            return {"*": shape(next(iter(value.values())))}
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return KINDS[type(value)]


def missing(recorded, now, where=""):
    """Return what was recorded and is not there, or is of another kind; null and empty say nothing of a kind."""
    if recorded in ("null", [], {}) or now in ("null", [], {}):
        return []
    if type(recorded) is not type(now):
        return [f"{where}: was {recorded}, is {now}"]
    if isinstance(recorded, dict):
        gone = [f"{where}.{key} is gone" for key in recorded if key not in now]
        return gone + [
            one for key in recorded.keys() & now.keys() for one in missing(recorded[key], now[key], f"{where}.{key}")
        ]
    if isinstance(recorded, list):
        return missing(recorded[0], now[0], f"{where}[]")
    return [] if recorded == now else [f"{where}: was {recorded}, is {now}"]


@pytest.mark.parametrize("line", RECORDED)
def test_what_programs_parse_stays(cluster, raftctl, monkeypatch, line):
    monkeypatch.setattr(doctor, "_LOOK_AGAIN_S", 0.0)
    cluster.nodes[1]["kv"] = {"keys": 2, "bytes": 100}
    cluster.nodes[2]["runtime_config"]["enable_elect"] = False
    cluster.target(3)["matching"] = log_id(20)
    out = raftctl(f"{line} -o json", code=None).out
    document = json.loads(out.splitlines()[0] if line.startswith("top") else out)
    assert [] == missing(RECORDED[line], shape(document))


def test_a_key_that_goes_and_a_kind_that_changes_are_noticed():
    assert [".a is gone"] == missing({"a": "text"}, {"b": "text"})
    assert [".a: was text, is number"] == missing({"a": "text"}, {"a": "number"})
    assert [".a[].b is gone"] == missing({"a": [{"b": "text"}]}, {"a": [{"c": "text"}]})
    assert [] == missing({"a": "null"}, {"a": "text", "b": "text"})
