"""Threads that write while something is done to a cluster, and the check that nothing of it is lost."""

from __future__ import annotations

import abc
import base64
import json
import threading
import urllib.parse
import urllib.request
from typing import Self

PAGE = 500
"""Values read at once in the end."""


class WriterThreads(abc.ABC):
    """As a context: `count` threads that write until its end. `acknowledged`: keys and values that must be there."""

    def __init__(self, count: int) -> None:
        self.acknowledged: dict[str, bytes] = {}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @abc.abstractmethod
    def _write(self, writer: int) -> None:
        """Write until `_stop` is set."""


def missing(url: str, acknowledged: dict[str, bytes]) -> int:
    """Return how many acknowledged writes the node does not have."""
    found: dict[str, bytes] = {}
    after = ""
    while after is not None:
        query = urllib.parse.urlencode({"prefix": "load/", "limit": PAGE, "after": after})
        with urllib.request.urlopen(f"{url}/v1/kv?{query}", timeout=30) as reply:
            page = json.load(reply)
        found.update((item["key"], base64.b64decode(item["value_base64"])) for item in page["items"])
        after = page["next"]
    return sum(found.get(key) != value for key, value in acknowledged.items())
