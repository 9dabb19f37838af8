"""What an HTTP exchange is made of, whoever carries it out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

REPLY_BYTES_MAX: Final = 64 * 1024 * 1024
"""A page of a key-value list has at most 4 MiB; whoever sends more than this is not one of ours."""

_URL: Final = re.compile(r"(https?)://(\[[0-9A-Fa-f:.]+\]|[^/?#\s@:\[\]]+)(?::(\d{1,5}))?(?:[/?#]\S*)?", re.IGNORECASE)


class Tls(msgspec.Struct, frozen=True):
    cacert: Path | None = None
    cert: Path | None = None
    key: Path | None = None


NO_TLS_FILES: Final = Tls()


class Reply(msgspec.Struct, frozen=True):
    """`headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def host_and_port(url: str) -> tuple[str, int] | None:
    """Return where `url` leads, None if it is not an http(s) URL."""
    found = _URL.fullmatch(url)
    if found is None:
        return None
    port = int(found[3]) if found[3] else 443 if found[1].lower() == "https" else 80
    return (found[2].strip("[]").lower(), port) if 0 < port < 65536 else None
