"""Does docs/formats.md say what the code does? Its numbers, its layouts, its lists and the files of a data directory."""

from __future__ import annotations

import importlib
import re
import struct
from pathlib import Path

import pytest

from raft_engine.kv.database import _TABLES
from raft_engine.storage.identity import Identity
from raft_engine.storage.segment_index import SegmentIndex
from raft_engine.transport.codec import _KINDS
from raft_engine.transport.handshake import Answer, BootstrapHello, PeerHello, Refused, Welcome
from tests.house.test_tree import ROOT

PAGE = (ROOT / "docs" / "formats.md").read_text("utf-8")
NUMBERS = re.findall(r"^\| (\d+) \| `(raft_engine[\w.]+)\.(\w+)` \|", PAGE, re.MULTILINE)
LAYOUTS = re.findall(r"<!-- layout (raft_engine[\w.]+)\.(\w+) -->\n\n(.*?)\n\n", PAGE + "\n", re.DOTALL)


def in_code(module: str, name: str):
    return getattr(importlib.import_module(module), name)


def fields(layout: struct.Struct) -> list[int]:
    """Return the size of each field of a packed layout."""
    assert layout.format[0] == "<"
    sizes = []
    for count, code in re.findall(r"(\d*)([a-zA-Z])", layout.format):
        sizes += [int(count)] if code == "s" else [struct.calcsize(f"<{code}")] * int(count or 1)
    return sizes


def test_the_page_has_numbers_and_layouts():
    assert len(NUMBERS) >= 20
    assert len(LAYOUTS) == 10


@pytest.mark.parametrize(("number", "module", "name"), NUMBERS, ids=lambda text: text.rpartition(".")[2])
def test_a_number_is_the_one_in_the_code(number: str, module: str, name: str):
    assert in_code(module, name) == int(number)


@pytest.mark.parametrize(("module", "name", "table"), LAYOUTS, ids=lambda text: text.rpartition(".")[2].split("\n")[0])
def test_a_layout_is_the_one_in_the_code(module: str, name: str, table: str):
    layout = in_code(module, name)
    rows = re.findall(r"^\| (\d+) \| (\d+|…) \|", table, re.MULTILINE)
    described = [(int(offset), int(size)) for offset, size in rows if size != "…"]
    offsets = [sum(fields(layout)[:number]) for number in range(len(fields(layout)))]
    assert described == list(zip(offsets, fields(layout), strict=True))
    assert [int(offset) for offset, size in rows if size == "…"] in ([], [layout.size])


def test_every_version_of_a_format_is_on_the_page():
    constants = {
        f"{'.'.join(path.relative_to(ROOT).with_suffix('').parts)}.{name}"
        for path in (ROOT / "raft_engine").rglob("*.py")
        for name in re.findall(r"^((?:\w+_)?(?:VERSION|FORMAT)): Final = \d+$", path.read_text("utf-8"), re.MULTILINE)
    }
    assert constants
    assert constants <= {f"{module}.{name}" for _, module, name in NUMBERS}


def test_every_magic_word_is_on_the_page():
    words = {
        word
        for path in (ROOT / "raft_engine").rglob("*.py")
        for word in re.findall(r'MAGIC: Final = b"(\w+)"', path.read_text("utf-8"))
    }
    assert len(words) >= 6
    assert [word for word in words if f"`{word}`" not in PAGE] == []


def test_every_message_has_its_number():
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|$", PAGE, re.MULTILINE)
    assert rows == [(str(number), kind.__name__) for number, kind in enumerate(_KINDS)]


@pytest.mark.parametrize("kind", [PeerHello, BootstrapHello, Welcome, Answer, Refused], ids=lambda kind: kind.__name__)
def test_every_field_of_a_greeting_is_named(kind):
    (row,) = re.findall(rf"^\| `{kind.__struct_config__.tag}` \| \w+ \| (.*) \|$", PAGE, re.MULTILINE)
    assert [name for name in kind.__struct_fields__ if f"`{name}`" not in row] == []


def test_every_field_of_an_identity_and_of_an_index_is_named():
    names = [*Identity.__struct_fields__, *SegmentIndex.__struct_fields__]
    assert [name for name in names if f"`{name}`" not in PAGE] == []


def test_the_tables_of_the_database_have_the_columns_that_are_shown():
    for table in _TABLES:
        name = re.findall(r"CREATE TABLE (\w+)\(", table)[0]
        columns = re.findall(r"(\w+) (?:BLOB|INTEGER)", table)
        (shown,) = re.findall(rf"CREATE TABLE {name}\((.*?)\);", PAGE, re.DOTALL)
        assert re.findall(r"(\w+) (?:BLOB|INTEGER)", shown) == columns


def test_every_kind_of_file_in_a_golden_directory_is_shown():
    node = ROOT / "tests" / "storage" / "golden" / "v1" / "node"
    names = {re.sub(r"\d+", "N", path.name) for path in node.rglob("*")}
    shown = re.sub(r"\d+", "N", PAGE).replace("<n>", "N").replace("-000004d2", "-Nd2")
    assert sorted(name for name in names if name not in shown) == []


def test_the_golden_directory_is_named_where_the_rule_is():
    assert Path(ROOT / "tests/storage/golden/v1").is_dir()
    assert "tests/storage/golden/v1" in PAGE
