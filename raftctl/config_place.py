"""Where the user's configuration file is; asked on every start, so that nothing else is loaded here."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def config_path() -> Path:
    """Return where the file is, or would be."""
    from pathlib import Path

    named = os.environ.get("RAFTCTL_CONFIG")
    if named:
        return Path(named)
    if sys.platform == "linux":
        # As platformdirs says; to load it, and with it tempfile, bz2 and lzma, is a sixth of a short command.
        home = os.environ.get("XDG_CONFIG_HOME", "")
        return Path(home if home.startswith("/") else os.path.expanduser("~/.config"), "raftctl", "config.toml")  # noqa: PTH111
    import platformdirs

    return platformdirs.user_config_path("raftctl") / "config.toml"
