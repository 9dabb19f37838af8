"""Whether a node could use the data directory that its file names: the checks of a start, without the start.

Source: public contract, section 1 (`check-config`).
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from raft_engine.node_config import NodeConfig
from raft_engine.storage.files import Files, storage_failed
from raft_engine.storage.identity import check_belongs, check_private, load_identity


def check_usable(config: NodeConfig) -> None:
    """Check that a start by this user would get as far as taking the directory's lock. Nothing is left behind.

    Raises: WrongDirectory, Damaged, NewerFormat, StorageFailed.
    """
    path = config.data_dir
    try:
        try:
            path.lstat()
        except FileNotFoundError:
            _try_to_make(path)
            return
        files = Files()
        check_private(path, files)
        identity = load_identity(path, files)
    except OSError as error:
        raise storage_failed(error, "opening the data directory", path) from error
    if identity is not None:
        check_belongs(identity, path, config.cluster, config.node_id)


def _try_to_make(path: Path) -> None:
    """Make a directory where the first of those that are missing would be, and remove it: only the disk knows whether it can.

    Raises: OSError: it cannot be made.
    """
    nearest = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    try:
        Path(tempfile.mkdtemp(prefix=".check-config-", dir=nearest)).rmdir()
    except OSError as error:
        error.filename = str(path)  # the one that was meant
        raise
