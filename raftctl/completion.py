"""What the Tab key offers beyond commands and options: ids of nodes that live, and names of contexts.

Silent and quick: a completion that prints an error or makes people wait is worse than none.
"""

from __future__ import annotations

import os
from typing import Any, Final

ANSWER_WITHIN_S: Final = 0.7


def complete_contexts(incomplete: str) -> list[str]:
    """Return contexts of the configuration file."""
    from raftctl.config_file import read_config
    from raftctl.errors import CtlError

    try:
        return sorted(name for name in read_config().contexts if name.startswith(incomplete))
    except CtlError:
        return []


def complete_nodes(ctx: Any, incomplete: str) -> list[tuple[str, str]]:
    """Return ids of nodes with what they are at the moment.

    Args:
        ctx: a Typer context, or what has its `params` and `find_root`; the name is what Typer goes by.
    """
    from raftctl.errors import CtlError
    from raftctl.http import Http
    from raftctl.http_client import HttpClusterClient
    from raftctl.settings import Flags, Settings

    if os.environ.get("RAFTCTL_COMPLETE_OFFLINE"):
        return []
    try:
        settings = Settings(Flags(context=_typed(ctx, "context"), endpoint=_typed(ctx, "endpoint") or []))
        http = Http(request_timeout_s=ANSWER_WITHIN_S, token=settings.token, read_only=True)
        survey = HttpClusterClient(http, settings.endpoints).cluster()
    except (CtlError, OSError, ValueError):
        return []
    rows = [(node.node_id, node.status.state if node.status is not None else "unreachable") for node in survey.nodes]
    return [(str(node_id), state) for node_id, state in rows if node_id is not None and str(node_id).startswith(incomplete)]


def _typed(ctx: Any, name: str) -> Any:
    """Return what was typed so far for an option, before or behind the command."""
    return ctx.params.get(name) or ctx.find_root().params.get(name)


def complete_runs(incomplete: str) -> list[str]:
    """Return ids of journalled runs."""
    from raftctl.runbook.journal import runs_path

    folder = runs_path()
    names = [path.stem for path in folder.glob("*.jsonl")] if folder.is_dir() else []
    return sorted((name for name in names if name.startswith(incomplete)), reverse=True)
