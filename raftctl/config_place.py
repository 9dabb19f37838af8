"""Where the user's configuration file is; asked on every start, so that nothing else is loaded here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def config_path() -> Path:
    """Return where the file is, or would be."""
    named = os.environ.get("RAFTCTL_CONFIG")
    if named:
        from pathlib import Path

        return Path(named)
    import platformdirs

    return platformdirs.user_config_path("raftctl") / "config.toml"
