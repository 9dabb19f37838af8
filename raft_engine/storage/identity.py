"""Who this data directory belongs to, and how far its node has come.

The incarnation is drawn once, when the directory is created, and never derived from anything: a wiped node must not be able
to draw its old one again. The boot counter rises with every start, durably, so that a directory restored from an older copy
can be told from the one that ran last.
Source: rejoin_safety (incarnation, boot counter, first start of a cluster).
"""

from __future__ import annotations

import errno
import os
import stat
import zlib
from pathlib import Path
from typing import Final

import msgspec

from raft_engine.errors import Damaged, DirectoryLocked, NewerFormat, StorageFailed, WrongDirectory
from raft_engine.storage.files import Files
from raft_engine.storage.hints import DIRECTORY_GONE, WAY_B_HINT
from raft_engine.types.bootstrap import BirthState
from raft_engine.types.ids import Boot, Incarnation, NodeId
from raft_engine.types.membership import EMPTY_MEMBERSHIP, Membership
from raft_engine.types.unreadable import UNREADABLE

FILE_NAME: Final = "identity.json"
LOCK_NAME: Final = "lock"
FORMAT: Final = 1
_INCARNATION_BITS: Final = 128
_NOT_MADE_BY_US: Final = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EINVAL, errno.ENOTSUP}
"""A parent that we may not list, or on a file system that cannot be written, was not made by us, nor were those above it."""


class KnownBoot(msgspec.Struct, frozen=True):
    """A start of another node that this one has heard of."""

    node_id: NodeId
    incarnation: Incarnation
    boot: Boot


class Identity(msgspec.Struct, frozen=True):
    """`membership` is the cluster's first configuration, known from the preparation on; `cluster_id` too.

    `boot_count` is the number of starts. `log_created`: entries may have been acknowledged, so a missing log is a loss.
    """

    cluster: str
    node_id: NodeId
    incarnation: Incarnation
    boot_count: int = 0
    cluster_id: str = ""
    birth: BirthState = BirthState.BLANK
    membership: Membership = EMPTY_MEMBERSHIP
    log_created: bool = False
    boots: tuple[Boot, ...] = ()
    """The names of the last starts, newest first: a copy of this directory that runs elsewhere, or later, has others."""
    known: tuple[KnownBoot, ...] = ()
    """The last start heard of each peer."""


class _IdentityFile(msgspec.Struct, frozen=True):
    """`checksum` is the CRC-32 of the identity's bytes as they stand in the file."""

    format: int
    checksum: str
    identity: msgspec.Raw


def load_identity(directory: Path, files: Files) -> Identity | None:
    """Return the identity in `directory`, or None if it has none.

    Raises: Damaged, NewerFormat, OSError.
    """
    path = directory / FILE_NAME
    try:
        data = files.read_whole(path)
    except FileNotFoundError:
        return None
    return decode_identity(data, str(path))


def decode_identity(data: bytes, path: str) -> Identity:
    """Return the identity in a file's bytes.

    Raises: Damaged, NewerFormat.
    """
    try:
        outer = msgspec.json.decode(data, type=_IdentityFile)
        if outer.format > FORMAT:
            raise NewerFormat(f"identity format {outer.format} is newer than this program knows ({FORMAT})", path=path)
        if outer.checksum != _checksum(bytes(outer.identity)):
            raise Damaged("checksum of the identity does not match: the file was altered", path=path, hint=WAY_B_HINT)
        return msgspec.json.decode(outer.identity, type=Identity)
    except UNREADABLE as error:
        raise Damaged(f"the identity cannot be read: {error}", path=path, hint=WAY_B_HINT) from error


def save_identity(directory: Path, identity: Identity, files: Files) -> None:
    """Replace the identity in `directory`, atomically and durably."""
    files.replace(directory / FILE_NAME, encode_identity(identity))


def encode_identity(identity: Identity) -> bytes:
    """Return the bytes of an identity's file."""
    encoded = msgspec.json.encode(identity)
    return msgspec.json.encode(_IdentityFile(FORMAT, _checksum(encoded), msgspec.Raw(encoded)))


def open_or_create(directory: Path, cluster: str, node_id: NodeId, files: Files, *, starts: bool = True) -> Identity:
    """Return the identity for this start: created if there is none, its boot counter raised durably.

    Args:
        starts: whether the node is going to run; a tool that only mends the directory leaves the counter as it is, so that
            the counter tells whether the node ran meanwhile.
    Raises: WrongDirectory: it belongs to another cluster or node; Damaged, NewerFormat.
    """
    identity = load_identity(directory, files)
    if identity is None:
        identity = Identity(
            cluster, node_id, Incarnation(f"{files.random_bits(_INCARNATION_BITS):0{_INCARNATION_BITS // 4}x}")
        )
    check_belongs(identity, directory, cluster, node_id)
    if not starts and identity.boot_count:
        return identity
    identity = msgspec.structs.replace(identity, boot_count=identity.boot_count + 1)
    save_identity(directory, identity, files)
    return identity


def check_belongs(identity: Identity, directory: Path, cluster: str, node_id: NodeId) -> None:
    """Raises: WrongDirectory: the identity in `directory` is another node's."""
    if (identity.cluster, identity.node_id) != (cluster, node_id):
        raise WrongDirectory(
            f"this directory belongs to node {identity.node_id} of cluster {identity.cluster!r}, "
            f"not to node {node_id} of cluster {cluster!r}",
            path=str(directory),
            hint="correct data_dir, node_id or cluster in node.toml",
        )


def prepare_directory(directory: Path, files: Files) -> None:
    """Create `directory` for its owner alone, or check that it is so.

    Raises: WrongDirectory: not a directory, another owner, or open to others.
    """
    if not files.exists(directory):
        files.make_parents(directory)
        files.mkdir(directory)
    if not files.exists(directory / FILE_NAME):
        _make_name_durable(directory, files)
    check_private(directory, files)


def check_private(directory: Path, files: Files) -> None:
    """Check that a directory is one, and this user's alone.

    Raises: WrongDirectory: not a directory, another owner, or open to others; OSError: it is not there.
    """
    owner, mode = files.owner_and_mode(directory)
    if not stat.S_ISDIR(mode):
        raise WrongDirectory("the data directory is not a directory", path=str(directory), hint="correct data_dir")
    if owner != os.geteuid():
        raise WrongDirectory(
            f"the data directory belongs to user {owner}, this process runs as user {os.geteuid()}",
            path=str(directory),
            hint=f"run the node as its owner, or chown -R {os.geteuid()} {directory}",
        )
    if mode & 0o077:
        raise WrongDirectory(
            f"the data directory is open to others (mode {stat.S_IMODE(mode):04o})",
            path=str(directory),
            hint=f"chmod 700 {directory}",
        )


def _make_name_durable(directory: Path, files: Files) -> None:
    """Make sure of the path to a directory of which nobody knows whether it was made just now, and how far up."""
    for parent in directory.absolute().parents:
        try:
            files.fsync_dir(parent)
        except OSError as error:
            if error.errno in _NOT_MADE_BY_US:
                return
            raise


class DirectoryLock:
    """Holds a data directory for this process: the kernel drops it with the process, however that ends."""

    def __init__(self, directory: Path, files: Files) -> None:
        """Take the lock.

        Raises: DirectoryLocked: another process has it; its id is in the message.
        """
        self._files = files
        self._path = path = directory / LOCK_NAME
        self._descriptor = files.open(path, create=True)
        try:
            files.lock(self._descriptor)
            files.cut(self._descriptor, 0)
            files.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError as error:
            holder = files.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            files.close(self._descriptor)
            raise DirectoryLocked(
                f"process {holder} has this data directory open",
                path=str(directory),
                hint="one process per data directory: stop that one, or give this node another data_dir",
            ) from error
        except BaseException:
            files.close(self._descriptor)
            raise

    def check_in_place(self) -> None:
        """Check that the directory is still where it was when the lock was taken.

        Raises: StorageFailed: it was moved, removed or replaced; OSError: the disk does not say.
        """
        if not self._files.is_still_at(self._descriptor, self._path):
            raise StorageFailed(
                f"the data directory {DIRECTORY_GONE} while the node ran ({self._path.parent}): what is "
                "written now could not be found again; hint: put the directory back and start the node; if it is lost, start "
                "the node with an empty one, then raftctl rejoin-node with --blank"
            )

    def release(self) -> None:
        self._files.close(self._descriptor)


def _checksum(encoded: bytes) -> str:
    return f"{zlib.crc32(encoded):08x}"
