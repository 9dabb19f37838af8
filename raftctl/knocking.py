"""Whom to ask next of several nodes that can all serve: the first that answers a knock, so that nobody waits for one that hangs.

A request may take long, and leaves a doubt when no reply comes; a knock takes a moment and leaves none.
Source: RFC 8305 (happy eyeballs: the second is tried when the first has been silent for a moment, not when it is given up).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from raftctl.errors import CtlError
from raftctl.parallel import Asking

ALONE_S: Final = 0.1
"""For so long the first one is knocked at alone: two nodes in three need not be troubled when all is well."""


class Acquaintance:
    """What is known of who answers. `order`: who is asked first; whoever did not answer is asked last the next time."""

    def __init__(self, endpoints: Sequence[str]) -> None:
        self.order = list(endpoints)
        self.heard: set[str] = set()
        """Who has answered something by now."""
        self.doubted: set[str] = set()
        """Who was silent for as long as a mere look, and may be slow or gone."""

    def note(self, url: str, *, is_silent: bool) -> None:
        """Keep in mind whether it answers."""
        (self.doubted if is_silent else self.heard).add(url)
        (self.heard if is_silent else self.doubted).discard(url)
        if is_silent:
            self.ask_last(url)

    def ask_last(self, url: str) -> None:
        if url in self.order:
            self.order.remove(url)
            self.order.append(url)


class Knocks:
    """For one request that any of `urls` may serve, each once.

    The first is knocked at; once it was silent for a moment, or somebody else was before, all are, side by side. Who has
    answered before is not knocked at, nor is a lone endpoint: there is no other choice.

    Args:
        knock: returns why a node does not answer; called on other threads.
    """

    def __init__(self, urls: Sequence[str], known: Acquaintance, knock: Callable[[str], CtlError | None]) -> None:
        self.silent: dict[str, CtlError] = {}
        """Who did not answer by now, and why."""
        self._left = list(urls)
        self._known = known
        self._asking = Asking(knock)
        self._knocked: set[str] = set()
        self._at_all = False
        self._is_needed = len(known.order) > 1

    def next(self) -> str | None:
        """Return whom to ask; None: everybody was asked, or is silent."""
        while self._left:
            ready = [url for url in self._left if not self._is_needed or url in self._known.heard]
            if ready and (self._at_all or ready[0] == self._left[0]):
                if ready[0] != self._left[0]:
                    self._known.ask_last(self._left[0])
                self._left.remove(ready[0])
                return ready[0]
            self._at_all = self._at_all or bool(self.silent) or self._left[0] in self._known.doubted
            self._knock(self._left if self._at_all else self._left[:1])
            if self._hear(None if self._at_all else ALONE_S):
                continue
            if self._at_all:
                return None
            self._at_all = True
        return None

    def reach(self, url: str) -> None:
        """Make sure that this one answers. Raises: CtlError: unreachable: another one may be asked."""
        if self._is_needed and url not in self._known.heard and url not in self.silent:
            self._knock([url])
        while url in self._knocked and url not in self._known.heard and url not in self.silent and self._hear(None):
            pass
        if url in self.silent:
            raise self.silent[url]

    def _knock(self, urls: Sequence[str]) -> None:
        fresh = [url for url in urls if url not in self._knocked and url not in self._known.heard]
        self._knocked.update(fresh)
        self._asking.add(fresh)

    def _hear(self, within_s: float | None) -> bool:
        """Wait for one of them; False: none answered or gave up within that time."""
        came = self._asking.next(within_s)
        if came is None:
            return False
        url, error = came
        self._known.note(url, is_silent=error is not None)
        if error is not None:
            self.silent[url] = error
            if url in self._left:
                self._left.remove(url)
        return True
