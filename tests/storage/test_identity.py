"""Who a directory belongs to, and that only one process has it."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import msgspec
import pytest

from raft_engine.errors import Damaged, DirectoryLocked, NewerFormat, StorageFailed, WrongDirectory
from raft_engine.storage.files import Files
from raft_engine.storage.identity import (
    DirectoryLock,
    decode_identity,
    load_identity,
    open_or_create,
    prepare_directory,
    save_identity,
)
from raft_engine.types.bootstrap import BirthState
from raft_engine.types.ids import NodeId

FILES = Files()


def opened(directory, cluster="demo", node_id=1):
    return open_or_create(directory, cluster, NodeId(node_id), FILES)


def test_a_new_identity_is_blank_with_a_random_incarnation(tmp_path):
    (tmp_path / "other").mkdir()
    identity, other = opened(tmp_path), opened(tmp_path / "other")
    assert (identity.cluster, identity.node_id, identity.birth) == ("demo", 1, BirthState.BLANK)
    assert re.fullmatch("[0-9a-f]{32}", identity.incarnation)
    assert identity.incarnation != other.incarnation
    assert not identity.log_created


def test_an_identity_is_kept_and_every_start_is_counted(tmp_path):
    identities = [opened(tmp_path) for _ in range(3)]
    assert [identity.boot_count for identity in identities] == [1, 2, 3]
    assert len({identity.incarnation for identity in identities}) == 1
    assert load_identity(tmp_path, FILES) == identities[-1]


@pytest.mark.parametrize(("cluster", "node_id"), [("other", 1), ("demo", 2)])
def test_the_directory_of_another_node_is_refused_with_both_names(cluster, node_id, tmp_path):
    opened(tmp_path)
    with pytest.raises(WrongDirectory) as caught:
        opened(tmp_path, cluster, node_id)
    assert "node 1 of cluster 'demo'" in str(caught.value)
    assert f"node {node_id} of cluster {cluster!r}" in str(caught.value)
    assert load_identity(tmp_path, FILES).boot_count == 1


def test_an_altered_identity_is_damage(tmp_path):
    opened(tmp_path)
    path = tmp_path / "identity.json"
    path.write_bytes(path.read_bytes().replace(b'"node_id":1', b'"node_id":2'))
    with pytest.raises(Damaged, match="checksum"):
        opened(tmp_path, node_id=2)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b'{"format":1}', b'{"format":1,"checksum":"0","identity":{}}']
)
def test_an_unreadable_identity_is_damage(content, tmp_path):
    (tmp_path / "identity.json").write_bytes(content)
    with pytest.raises(Damaged):
        opened(tmp_path)


def test_a_later_format_is_refused():
    with pytest.raises(NewerFormat):
        decode_identity(b'{"format":2,"checksum":"","identity":{}}', "identity.json")


def test_a_save_cut_short_leaves_the_identity_before(tmp_path):
    identity = opened(tmp_path)

    class Breaking(Files):
        def rename(self, source, target):
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        save_identity(tmp_path, msgspec.structs.replace(identity, cluster_id="x"), Breaking())
    assert load_identity(tmp_path, FILES) == identity
    assert opened(tmp_path).boot_count == 2


# --- the directory ----------------------------------------------------------------------------------------------------


def test_a_new_directory_is_private(tmp_path):
    prepare_directory(tmp_path / "a" / "b", FILES)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o707, 0o701])
def test_a_directory_open_to_others_is_refused_with_the_command_that_helps(mode, tmp_path):
    directory = tmp_path / "node"
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(WrongDirectory) as caught:
        prepare_directory(directory, FILES)
    assert f"{mode:04o}" in str(caught.value)
    assert f"chmod 700 {directory}" in caught.value.hint


def test_a_foreign_directory_is_refused(tmp_path, monkeypatch):
    directory = tmp_path / "node"
    directory.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: directory.stat().st_uid + 1)
    with pytest.raises(WrongDirectory, match="belongs to user"):
        prepare_directory(directory, FILES)


def test_a_file_is_not_a_data_directory(tmp_path):
    (tmp_path / "node").write_text("")
    with pytest.raises(WrongDirectory, match="not a directory"):
        prepare_directory(tmp_path / "node", FILES)


# --- the lock ---------------------------------------------------------------------------------------------------------

HOLDER = """
import sys
from pathlib import Path
from raft_engine.storage.files import Files
from raft_engine.storage.identity import DirectoryLock
lock = DirectoryLock(Path(sys.argv[1]), Files())
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(DirectoryLocked) as caught:
            DirectoryLock(tmp_path, FILES)
        assert f"process {holder.pid} " in str(caught.value)
    finally:
        holder.kill()
        holder.wait()
        holder.stdin.close()
        holder.stdout.close()
    DirectoryLock(tmp_path, FILES).release()  # a killed process leaves no lock behind


def test_the_same_process_is_refused_too(tmp_path):
    lock = DirectoryLock(tmp_path, FILES)
    with pytest.raises(DirectoryLocked):
        DirectoryLock(tmp_path, FILES)
    lock.release()
    DirectoryLock(tmp_path, FILES).release()


def test_a_lock_file_that_is_a_symbolic_link_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").write_text("precious")
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        DirectoryLock(tmp_path, FILES)
    assert (tmp_path / "elsewhere").read_text() == "precious"


@pytest.mark.parametrize("change", ["moved", "removed", "replaced", "a file in its place"])
def test_a_directory_that_is_not_there_any_more_is_noticed(change, tmp_path):
    directory = tmp_path / "n1"
    prepare_directory(directory, Files())
    lock = DirectoryLock(directory, Files())
    lock.check_in_place()
    (directory).rename(tmp_path / "away")
    if change == "removed":
        (tmp_path / "away" / "lock").unlink()
    elif change == "replaced":
        prepare_directory(directory, Files())
        (directory / "lock").write_text("1\n")
    elif change == "a file in its place":
        directory.write_text("")
    with pytest.raises(StorageFailed, match=re.escape(f"while the node ran ({directory})")):
        lock.check_in_place()
    lock.release()
