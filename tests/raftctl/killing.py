"""Killing raftctl in this process: from a chosen point on it can neither send nor write, as after kill -9.

A point is a moment between two effects on the world: before a request that changes something, after it (its reply is lost),
before a journal record, after it, and in the middle of it (a torn line). Reads change nothing, so a death around one is the
same death as after the effect before it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from raftctl.http import Http
from raftctl.runbook import journal


class Killed(BaseException):
    """The process is dead. No code of the program catches this."""


class Clock:
    """Time that goes by only when somebody sleeps; in place of the module `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Killer:
    """Counts the points, and kills at one of them (None: never)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at: int | None = None
        self.count = 0
        self.dead = False
        self.where: list[str] = []
        send, write = Http.send, journal._write_all

        def sending(http: Http, method: str, url: str, **more: Any) -> Any:
            if self.dead:
                raise Killed
            if method == "GET":
                return send(http, method, url, **more)
            path = url.split("/v1/")[1].split("?", maxsplit=1)[0]
            self._point(f"before {path}")
            reply = send(http, method, url, **more)
            self._point(f"after {path}")
            return reply

        def writing(handle: int, line: bytes) -> None:
            if self.dead:
                raise Killed
            name = line.split(b'"event":"')[1].split(b'"')[0].decode()
            self._point(f"before record {name}")
            self._point(f"in record {name}", lambda: os.write(handle, line[: len(line) // 2]))
            write(handle, line)
            self._point(f"after record {name}")

        monkeypatch.setattr(Http, "send", sending)
        monkeypatch.setattr(journal, "_write_all", writing)

    def around(self, what: str, act: Callable[[], Any]) -> Any:
        """Do something to the world that is neither a request nor a record, with a point before and after it."""
        if self.dead:
            raise Killed
        self._point(f"before {what}")
        result = act()
        self._point(f"after {what}")
        return result

    def _point(self, where: str, last_act: Callable[[], object] = lambda: None) -> None:
        self.where.append(where)
        if self.at == self.count:
            last_act()
            self.dead = True
            raise Killed
        self.count += 1

    def again(self, at: int | None = None) -> None:
        """Another process begins."""
        self.at, self.count, self.dead = at, 0, False
        self.where = []
