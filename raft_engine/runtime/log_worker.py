"""Writing the log: one thread, everything that waits in one go, one sync for all of it.

While the disk syncs, the next batch gathers: group commit sets its own pace. After the first failure nothing is written or
reported any more, because nobody knows what is on the disk then.
Source: dissertation 10.2.1; the hop over a SimpleQueue was measured against executors (docs/decisions).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence

from raft_engine.core.commands import AppendEntries, PurgeLog, ResetLog, SaveHardState, TruncateLog
from raft_engine.errors import RaftError, StorageFailed
from raft_engine.storage.interface import LogStorage
from raft_engine.types.entry import Entry
from raft_engine.types.ids import IoId

LogCommand = SaveHardState | AppendEntries | TruncateLog | PurgeLog | ResetLog


class LogWorker:
    """The only writer of a log. `flushed` and `failed` are called on its thread."""

    def __init__(self, log: LogStorage, flushed: Callable[[IoId], None], failed: Callable[[BaseException], None]) -> None:
        self._log = log
        self._flushed = flushed
        self._failed = failed
        self._queue: queue.SimpleQueue[Sequence[LogCommand] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="raft-log", daemon=True)
        self._thread.start()

    def put(self, commands: Sequence[LogCommand]) -> None:
        """Hand over commands, in order; at least one."""
        self._queue.put(commands)

    def stop(self) -> None:
        """Finish what is queued, then end. Blocks."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while True:
                batch, more = self._take()
                if batch:
                    self._perform(batch)
                    self._log.sync()
                    self._flushed(batch[-1].io_id)
                if not more:
                    return
        except RaftError as error:
            self._failed(error)
        except OSError as error:
            self._failed(_storage_failed(error))
        except BaseException as error:  # noqa: BLE001 (whatever it is, nothing may be acknowledged after it)
            self._failed(error)

    def _take(self) -> tuple[list[LogCommand], bool]:
        """Return everything that waits, at least one command, and whether there will be more."""
        batch: list[LogCommand] = []
        commands = self._queue.get()
        while commands is not None:
            batch.extend(commands)
            try:
                commands = self._queue.get_nowait()
            except queue.Empty:
                return batch, True
        return batch, False

    def _perform(self, batch: list[LogCommand]) -> None:
        appending: list[Entry] = []
        for command in batch:
            if isinstance(command, AppendEntries):
                appending.extend(command.entries)
                continue
            if appending:
                self._log.append(appending)
                appending = []
            self._perform_one(command)
        if appending:
            self._log.append(appending)

    def _perform_one(self, command: SaveHardState | TruncateLog | PurgeLog | ResetLog) -> None:
        match command:
            case SaveHardState():
                self._log.save_hard_state(command.hard_state)
            case TruncateLog():
                self._log.truncate(command.after)
            case PurgeLog():
                self._log.purge(command.upto)
            case ResetLog():
                self._log.reset(command.upto)


def _storage_failed(error: OSError) -> StorageFailed:
    failed = StorageFailed(f"the log could not be written: {error}; the node stops and acknowledges nothing more")
    failed.__cause__ = error
    return failed
