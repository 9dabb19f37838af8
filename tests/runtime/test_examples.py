"""The embedding example does what it says, in the length that is promised: examples/counter.py."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import runpy
import tempfile
from pathlib import Path

from tests.ports import free_ports

EXAMPLE = Path(__file__).parents[2] / "examples" / "counter.py"


def free_addresses(count: int) -> dict[int, str]:
    return {number: f"127.0.0.1:{port}" for number, port in enumerate(free_ports(count), start=1)}


async def test_the_counter_runs_on_three_nodes_and_uses_every_trigger(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("counter", EXAMPLE)
    counter = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(counter)
    await counter.main(tmp_path, free_addresses(3))
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "counted to 5 by the leader"
    assert re.fullmatch(r"answered by \[\d, \d\]", printed[1])
    assert re.fullmatch(r"snapshot up to \d+", printed[2])
    assert re.fullmatch(r"purged up to 2", printed[3])
    assert re.fullmatch(r"node \d leads term \d+", printed[4])
    assert re.search(r"already", printed[5])
    assert re.search(r"may revert once", printed[6])
    assert re.search(r"does not lead", printed[7])


def test_the_program_leaves_nothing_behind(tmp_path, monkeypatch):
    during = []

    def run(main):
        main.close()
        (directory,) = tmp_path.iterdir()
        (directory / "1").mkdir()
        during.append(directory)

    monkeypatch.setattr(asyncio, "run", run)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert 1 == len(during)
    assert [] == list(tmp_path.iterdir())


def test_state_machine_and_its_use_take_at_most_thirty_lines():
    code = EXAMPLE.read_text().partition("class Counter")[2].partition("if __name__")[0]
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= 30
