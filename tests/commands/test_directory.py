"""Whether a node could use the data directory that its file names: raft_engine/commands/directory.py."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from raft_engine.commands.directory import check_usable
from raft_engine.errors import StorageFailed, WrongDirectory
from raft_engine.node_config import NodeConfig, load_node_config
from tests.commands.directories import contents


def config(tmp_path: Path, data_dir: Path, node_id: int = 1) -> NodeConfig:
    path = tmp_path / "node.toml"
    path.write_text(
        f'cluster = "demo"\nnode_id = {node_id}\ndata_dir = "{data_dir}"\n'
        '[listen]\nmanagement = "127.0.0.1:7101"\nraft = "127.0.0.1:7201"\n'
    )
    return load_node_config(path)


def test_a_directory_that_can_be_made_is_not_made(tmp_path):
    check_usable(config(tmp_path, tmp_path / "a" / "b"))
    assert ["node.toml"] == [path.name for path in tmp_path.iterdir()]


def test_its_own_directory_is_usable_and_stays_as_it_is(tmp_path, directory):
    before = contents(directory)
    check_usable(config(tmp_path, directory))
    assert before == contents(directory)


def test_another_node_s_directory_is_not(tmp_path, directory):
    with pytest.raises(WrongDirectory, match="belongs to node 1 of cluster 'demo', not to node 2"):
        check_usable(config(tmp_path, directory, node_id=2))


def test_a_directory_that_is_open_to_others_is_not(tmp_path, directory):
    directory.chmod(0o755)
    with pytest.raises(WrongDirectory, match="open to others"):
        check_usable(config(tmp_path, directory))


@pytest.mark.parametrize("below", ["", "/n1", "/deep/n1"])
def test_nothing_is_made_in_a_file(tmp_path, below):
    (tmp_path / "file").write_text("")
    with pytest.raises((WrongDirectory, StorageFailed), match=r"is not a directory|ENOTDIR"):
        check_usable(config(tmp_path, Path(f"{tmp_path}/file{below}")))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_a_directory_that_cannot_be_made_is_named_with_the_reason(tmp_path, monkeypatch, number):
    def refusing(prefix: str, dir: Path) -> str:  # noqa: A002 (its name there)
        raise OSError(number, os.strerror(number), f"{dir}/{prefix}x")

    monkeypatch.setattr(tempfile, "mkdtemp", refusing)
    with pytest.raises(StorageFailed) as caught:
        check_usable(config(tmp_path, tmp_path / "n1"))
    assert errno.errorcode[number] in str(caught.value)
    assert f"({tmp_path / 'n1'})" in str(caught.value)
