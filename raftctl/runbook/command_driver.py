"""Stopping, wiping and starting a node with the site's own commands.

A command is a template in the context: words as a shell would split them, but no shell runs it. `{node}`, `{cluster}`,
`{recover_until}`, `{reason}`, `{expect_boot}` and `{retired}` stand for what they say; a doubled brace is a brace. What the
command prints is shown; its exit status is obeyed: anything but 0 means that it failed. After the time limit it is ended with
all its children. Whether a stop or a start worked is seen at the node, not believed.
Source: contract section 5 (drivers); field notes B 24 (a wrapper that ignored the result).
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import shlex
import signal
import string
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import IO, Final

from raftctl.client import ClusterClient
from raftctl.config_file import NodeEntry
from raftctl.durations import parse_duration
from raftctl.errors import CtlError
from raftctl.output.text import human_seconds, printable
from raftctl.runbook.drivers import Poll, WipeOrder, look

TIME_LIMIT_S: Final = 300.0
"""For one command: a service manager gives a process 90 s to stop before it kills it."""
SEEN_S: Final = 60.0
"""For the node to show what the command did: a start replays a log."""
_NAMES: Final = frozenset({"node", "cluster", "recover_until", "reason", "expect_boot", "retired"})
_RETIRED: Final = re.compile(r"\S*retired-[0-9TZ-]+")
_TAIL_LINES: Final = 5
_LOOK_S: Final = 0.1


def words_of(template: str, values: Mapping[str, object], where: str) -> list[str]:
    """Return the argument list that a template stands for.

    Raises: CtlError: config, naming what is wrong with it.
    """
    try:
        words = shlex.split(template)
        for word in words:
            for _, name, spec, conversion in string.Formatter().parse(word):
                if name is not None and (name not in _NAMES or spec or conversion):
                    known = ", ".join(sorted(f"{{{known}}}" for known in _NAMES))
                    raise CtlError("config", f"{where}: {{{name}}} stands for nothing", hint=f"known are {known}")
        filled = [word.format_map(values) for word in words]
    except KeyError as error:
        raise CtlError("config", f"{where}: {{{error.args[0]}}} has no value in this command") from error
    except ValueError as error:
        raise CtlError("config", f"{where} is not a command: {error}", hint="quote it as for a shell") from error
    if not filled:
        raise CtlError("config", f"{where} is empty")
    return filled


def run_words(words: list[str], where: str, limit_s: float, poll: Poll, tell: Callable[[str], None]) -> str:
    """Run one command to its end, show its lines as they come, and return what it printed.

    Raises: CtlError: `command_failed`, with its exit status and last lines.
    """
    tell(f"$ {shlex.join(words)}")
    try:
        process = subprocess.Popen(  # noqa: S603 (the operator's own command, from their own file, without a shell)
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise CtlError("command_failed", f"{where}: {words[0]} cannot be started: {error}") from error
    told, in_time = _watch(process, poll(limit_s), tell)
    if not in_time:
        raise CtlError("command_failed", f"{where} was ended after {human_seconds(limit_s)}{_tail(told)}")
    if process.returncode != 0:
        raise CtlError("command_failed", f"{where} failed with exit status {process.returncode}{_tail(told)}")
    return told


def _watch(process: subprocess.Popen[bytes], again: Callable[[], bool], tell: Callable[[str], None]) -> tuple[str, bool]:
    """Show what it prints until it ends; a child that lives on with its output open is not waited for."""
    assert process.stdout is not None
    try:
        with process.stdout as stream:
            lines = _Lines(stream, tell)
            while process.poll() is None:
                lines.take(_LOOK_S)
                if not again():
                    return lines.end(), False
            return lines.end(), True
    finally:
        if process.poll() is None:
            _end(process)


class CommandDriver:
    """Commands of the context for one node; `tell` shows a line of their output."""

    name = "command"
    names_retired = True

    def __init__(
        self, client: ClusterClient, node: int, cluster: str, entry: NodeEntry, poll: Poll, tell: Callable[[str], None]
    ) -> None:
        self._client = client
        self._node = node
        self._cluster = cluster
        self._entry = entry
        self._poll = poll
        self._tell = tell
        self._limit_s = parse_duration(entry.time_limit, "time-limit") if entry.time_limit else TIME_LIMIT_S
        self.undoes_wipes = entry.restore is not None
        self._check()

    def stop(self) -> None:
        self._run("stop", self._entry.stop)
        self._until(is_down(self._client, self._node), "stopped")

    def wipe(self, order: WipeOrder) -> str:
        boot = order.life.boot_count if order.life is not None else ""
        values = {"recover_until": order.recover_until, "reason": order.reason, "expect_boot": boot}
        found = _RETIRED.findall(self._run("wipe", self._entry.wipe, values))
        return found[-1] if found else ""

    def restore(self, retired: str) -> None:
        self._run("restore", self._entry.restore, {"retired": retired})

    def start(self) -> None:
        self._run("start", self._entry.start)
        self._until(is_up(self._client, self._node), "started")

    def _check(self) -> None:
        """Find a wrong template before anything is done. Raises: CtlError: config."""
        for verb in ("stop", "wipe", "start", "restore"):
            template = getattr(self._entry, verb)
            if template is None and verb != "restore":
                where = f"contexts.….nodes.{self._node}.{verb}"
                raise CtlError("config", f"driver command needs {where}", hint='as in: stop = "systemctl stop raft"')
            if template is not None:
                words_of(template, dict.fromkeys(_NAMES, ""), f"{verb} of node {self._node}")

    def _run(self, verb: str, template: str | None, more: Mapping[str, object] | None = None) -> str:
        """Run one command to its end; return what it printed.

        Raises: CtlError: `command_failed`, with its exit status and last lines.
        """
        where = f"{verb} of node {self._node}"
        values = {"node": self._node, "cluster": self._cluster} | dict(more or {})
        return run_words(words_of(template or "", values, where), where, self._limit_s, self._poll, self._tell)

    def _until(self, seen: Callable[[], bool], what: str) -> None:
        again = self._poll(SEEN_S)
        while not seen():
            if not again():
                raise CtlError(
                    "not_observed",
                    f"the command ended with 0, but node {self._node} is not {what} after {human_seconds(SEEN_S)}",
                )


class _Lines:
    """Whole lines of a stream, as they come."""

    def __init__(self, stream: IO[bytes], tell: Callable[[str], None]) -> None:
        self._stream = stream
        self._tell = tell
        self._rest = b""
        self._all: list[str] = []
        self._selector = selectors.DefaultSelector()
        os.set_blocking(stream.fileno(), False)
        self._selector.register(stream, selectors.EVENT_READ)

    def take(self, seconds: float) -> None:
        """Wait so long for more."""
        if not self._selector.select(seconds):
            return
        data = os.read(self._stream.fileno(), 65536)
        if not data:  # closed, while the process lives on
            time.sleep(seconds)
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._add(line)

    def end(self) -> str:
        """Take what is there, without waiting; return everything."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._stream.fileno(), 65536):
                self._rest += data
        for line in self._rest.split(b"\n"):
            if line:
                self._add(line)
        self._rest = b""
        self._selector.close()
        return "\n".join(self._all)

    def _add(self, line: bytes) -> None:
        text = line.decode("utf-8", "backslashreplace").rstrip("\r")
        self._all.append(text)
        self._tell(printable(text))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command and its children: they are a session of their own."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5.0)
            return


def _tail(told: str) -> str:
    lines = told.strip().splitlines()[-_TAIL_LINES:]
    return f": {' | '.join(map(printable, lines))}" if lines else ""


def is_down(client: ClusterClient, node: int) -> Callable[[], bool]:
    """Return whether the node's engine answers nothing: its process is gone, or says that it is stopped."""

    def seen() -> bool:
        status = look(client, node)
        return status is None or status.stopped

    return seen


def is_up(client: ClusterClient, node: int) -> Callable[[], bool]:
    def seen() -> bool:
        status = look(client, node)
        return status is not None and not status.stopped

    return seen
