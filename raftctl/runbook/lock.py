"""One runbook at a time for a cluster, as far as this machine goes.

The lock ends with the process that holds it, however that ends. A dry run only asks who holds it.
Source: field notes A.3.15, B 25.
"""

from __future__ import annotations

import fcntl
import re
import time
from typing import IO, Final

from raftctl.errors import CtlError
from raftctl.runbook.journal import state_path

_TRIES: Final = 5
"""Somebody who only asks holds the lock for microseconds."""


class ClusterLock:
    """The lock of one cluster; `key` is the cluster's id, or its name where it has none."""

    def __init__(self, key: str) -> None:
        self._path = state_path() / "locks" / (re.sub(r"[^A-Za-z0-9_-]", "_", key) + ".lock")
        self._file: IO[str] | None = None

    def holder(self) -> str | None:
        """Return the run that holds it, None if nobody does."""
        try:
            file = self._path.open("r", encoding="utf-8")
        except OSError:
            return None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return file.read().strip() or "another runbook"
        return None

    def take(self, run_id: str) -> None:
        """Hold the lock. Raises: CtlError: locked, naming the run that has it."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = self._path.open("a+", encoding="utf-8")
        for attempt in range(_TRIES):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if attempt == _TRIES - 1:
                    file.close()
                    holder = self.holder() or "another runbook"
                    message = f"this machine runs {holder} for the same cluster"
                    raise CtlError(
                        "locked", message, hint="wait for it; see: raftctl runs list", rule_ids=["no-lock"]
                    ) from error
                time.sleep(0.02)
        file.truncate(0)
        file.write(run_id + "\n")
        file.flush()
        self._file = file

    def release(self) -> None:
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None
