"""Is the optional build what it says: named modules compiled in a copy, and nothing compiled unless it is asked for?"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import raft_engine

ROOT = Path(__file__).resolve().parents[2]


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SETUP = load(ROOT / "setup.py")


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """scripts/compile.py, at home in a small clone whose only module is `raft_engine/one.py`."""
    module = load(ROOT / "scripts" / "compile.py")
    copy = tmp_path / ".compiled"
    for name, value in {"ROOT": tmp_path, "COPY": copy, "MARKER": copy / "built.txt", "LOG": copy / "build.log"}.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(module, "COPIED", ("raft_engine",))
    (tmp_path / "raft_engine").mkdir()
    (tmp_path / "raft_engine" / "one.py").write_text("ONE = 1\n")
    one = f"raft_engine/one{module.SUFFIX}"
    builds = f"from pathlib import Path; Path('{one}').touch(); Path('made').open('a').write('x')"
    (tmp_path / "setup.py").write_text(builds)
    return module


@pytest.mark.parametrize("pattern", [*SETUP.COMPILED, *sorted(SETUP.NOT_COMPILED)])
def test_a_name_in_the_list_of_compiled_modules_is_one(pattern: str):
    assert list(ROOT.glob(pattern)) != []


def test_every_room_with_a_compiled_module_is_tested_by_compiled_quick():
    rooms = re.search(
        r"^COMPILED_ROOMS := \$\(addprefix tests/,(.*)\)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE
    )
    assert rooms is not None
    assert {pattern.split("/")[1] for pattern in SETUP.COMPILED} <= set(rooms[1].split())


def test_without_being_asked_for_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RAFT_ENGINE_COMPILED", raising=False)
    assert SETUP.extensions() == []


def test_without_mypy_the_sentence_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAFT_ENGINE_COMPILED", "1")
    monkeypatch.setitem(sys.modules, "mypyc.build", None)
    with pytest.raises(SystemExit, match="RAFT_ENGINE_COMPILED=1 needs mypy\nhint: "):
        SETUP.extensions()


def test_no_machine_code_lies_beside_the_source_and_the_engine_knows_it():
    assert [*ROOT.glob("*.so"), *ROOT.glob("raft_engine/**/*.so")] == []
    assert raft_engine.is_compiled() is False


def test_the_copy_follows_the_clone_and_is_built_again_only_when_the_engine_changed(script: ModuleType, tmp_path: Path):
    made, copied = tmp_path / ".compiled" / "made", tmp_path / ".compiled" / "raft_engine"
    assert [script.main([]), script.main([])] == [0, 0]
    assert (made.read_text(), (copied / "one.py").read_text()) == ("x", "ONE = 1\n")
    (tmp_path / "raft_engine" / "one.py").unlink()
    (tmp_path / "raft_engine" / "two.py").write_text("TWO = 2\n")
    assert script.main([]) == 0
    assert made.read_text() == "xx"
    assert sorted(path.name for path in copied.iterdir()) == [f"one{script.SUFFIX}", "two.py"]


def test_each_build_ends_with_what_to_run_next_also_one_that_had_nothing_to_do(script: ModuleType, capsys):
    for _ in range(2):
        assert script.main([]) == 0
        (line,) = capsys.readouterr().out.splitlines()
        assert "make compiled-quick" in line


def test_a_build_that_fails_leaves_no_machine_code_and_says_why(script: ModuleType, tmp_path: Path, capsys):
    assert script.main([]) == 0
    (tmp_path / "setup.py").write_text("import sys; sys.exit('error: no compiler')")
    assert script.main([]) == 1
    assert "could not be compiled: error: no compiler; everything that was said is in " in capsys.readouterr().err
    assert list((tmp_path / ".compiled").glob("raft_engine/*.so")) == []
    assert script.main([]) == 1, "a failed build is tried again"


def test_a_wheel_has_nothing_of_an_earlier_build_and_is_named(script: ModuleType, tmp_path: Path, monkeypatch, capsys):
    (tmp_path / "build" / "lib").mkdir(parents=True)
    (tmp_path / "build" / "lib" / "gone.so").touch()
    build = "from pathlib import Path; Path('dist').mkdir(); Path('dist/one.whl').touch(); assert not Path('build').exists()"
    run = script.subprocess.run
    monkeypatch.setattr(script.subprocess, "run", lambda _, **options: run([sys.executable, "-c", build], **options))
    assert script.main(["--wheel"]) == 0
    assert capsys.readouterr().out == "dist/one.whl\n"


def test_a_wheel_that_cannot_be_built_is_said_with_what_is_needed(script: ModuleType, monkeypatch, capsys):
    run = script.subprocess.run
    monkeypatch.setattr(script.subprocess, "run", lambda _, **options: run(["false"], **options))
    assert script.main(["--wheel"]) == 1
    assert (
        "error: the wheel could not be built; pip says why above\nhint: compiling needs a C compiler"
        in capsys.readouterr().err
    )


def test_a_word_it_does_not_know_is_wrong_usage(script: ModuleType, capsys):
    assert script.main(["--weel"]) == 2
    assert "unknown words '--weel'; one may be given: --wheel" in capsys.readouterr().err
