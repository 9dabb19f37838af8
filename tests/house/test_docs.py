"""Does the documentation speak of what is there? Links, commands, options, the node file and the embedding example."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer.main

from raft_engine.node_config import load_node_config
from raftctl.app import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
README = (ROOT / "README.md").read_text("utf-8")
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")


def blocks(text: str, *kinds: str) -> list[str]:
    return [body for kind, body in re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL) if kind in kinds]


def typed() -> list[tuple[str, str]]:
    """Every command line that a page shows after a prompt, or between backticks, with the page's name."""
    found = []
    for page in PAGES:
        text = page.read_text("utf-8")
        prompted = [line[2:] for block in blocks(text, "console", "text") for line in block.splitlines() if line[:2] == "$ "]
        quoted = re.findall(r"`(raftctl [^`\n]+)`", text)
        found += [(page.name, line) for line in [*prompted, *quoted]]
    return sorted(set(found))


RAFTCTL_LINES = [(page, line) for page, line in typed() if line.startswith("raftctl ")]
MAKE_LINES = [(page, line) for page, line in typed() if line.startswith("make ")]


def test_the_pages_show_commands():
    assert len(RAFTCTL_LINES) > 20
    assert len(MAKE_LINES) > 3


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path):
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8"))
    missing = [t for t in targets if not t.startswith(("http://", "https://")) and not (page.parent / t).exists()]
    assert missing == []


@pytest.mark.parametrize(("page", "line"), RAFTCTL_LINES, ids=lambda text: text)
def test_a_command_that_is_shown_can_be_typed(page: str, line: str):
    words = shlex.split(line.split("  #", maxsplit=1)[0].split(" → ", maxsplit=1)[0])[1:]
    command = typer.main.get_command(app)
    context = command.make_context("raftctl", ["version"])
    while words and hasattr(command, "get_command"):
        while words and words[0].startswith("-"):
            takes = {name: not option.is_flag for option in command.params for name in option.opts}
            assert words[0] in takes, f"{page}: {line}"
            del words[: 1 + takes[words[0]]]
        if not words:
            return
        found = command.get_command(context, words[0])
        assert found is not None, f"{page}: {line}: there is no {words[0]}"
        command = found
        words = words[1:]
    options = {name for option in command.params for name in [*option.opts, *option.secondary_opts]}
    everywhere = {name for option in typer.main.get_command(app).params for name in option.opts}
    unknown = [w for w in words if re.match(r"-{1,2}[a-z]", w) and w.split("=")[0] not in options | everywhere]
    assert unknown == [], f"{page}: {line}"


@pytest.mark.parametrize(("page", "line"), MAKE_LINES, ids=lambda text: text)
def test_a_target_that_is_shown_can_be_made(page: str, line: str):
    target = line.split()[1]
    assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), f"{page}: {line}"


def test_the_node_file_of_the_readme_is_taken_as_it_is(tmp_path: Path):
    (text,) = blocks(README, "toml")
    path = tmp_path / "node.toml"
    path.write_text(text.replace("/var/lib/orders", str(tmp_path / "data")), "utf-8")
    assert load_node_config(path).cluster == tomllib.loads(text)["cluster"]


def test_the_embedding_example_fits_in_thirty_lines_and_is_the_one_that_runs():
    (text,) = blocks(README, "python")
    ast.parse(text)
    assert len([line for line in text.splitlines() if line.strip()]) <= 30
    shown = re.search(r"class Counter:.*?(?=\n\n\n)", text, re.DOTALL)
    assert shown is not None
    assert shown[0] in (ROOT / "examples" / "counter.py").read_text("utf-8")
