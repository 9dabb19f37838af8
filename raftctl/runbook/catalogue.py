"""Which runbooks there are, by the name that journals keep: the one place where a new one is entered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from raftctl.errors import CtlError
from raftctl.runbook.engine import Runbook
from raftctl.runbook.journal import Record


def _rejoin(params: Mapping[str, Any]) -> Runbook:
    from raftctl.runbook.rejoin import Rejoin, RejoinParams
    from raftctl.runbook.rejoin_blank import RejoinBlank

    typed = msgspec.convert(params, RejoinParams)
    return RejoinBlank(typed) if typed.blank else Rejoin(typed)


def _drain(params: Mapping[str, Any]) -> Runbook:
    from raftctl.runbook.drain import Drain, DrainParams

    return Drain(msgspec.convert(params, DrainParams))


def _rolling_restart(params: Mapping[str, Any]) -> Runbook:
    from raftctl.runbook.rolling_restart import RestartParams, RollingRestart

    return RollingRestart(msgspec.convert(params, RestartParams, strict=False))


def _replace_node(params: Mapping[str, Any]) -> Runbook:
    from raftctl.runbook.replace_node import ReplaceNode, ReplaceParams

    return ReplaceNode(msgspec.convert(params, ReplaceParams))


def _file(params: Mapping[str, Any]) -> Runbook:
    from raftctl.runbook.file_runbook import FileParams, FileRunbook

    return FileRunbook(msgspec.convert(params, FileParams, strict=False))


CATALOGUE: Final[Mapping[str, Callable[[Mapping[str, Any]], Runbook]]] = {
    "rejoin-node": _rejoin,
    "replace-node": _replace_node,
    "rolling-restart": _rolling_restart,
    "drain": _drain,
    "runbook": _file,
}


def runbook_of(began: Record) -> Runbook:
    """Return the runbook of a run, from its journal's first record.

    Raises: CtlError: `journal_damaged`, this version has no such runbook or other parameters.
    """
    command = str(began.get("command"))
    make = CATALOGUE.get(command)
    if make is None:
        known = ", ".join(CATALOGUE)
        raise CtlError("journal_damaged", f"this version has no runbook {command!r}", hint=f"it has: {known}")
    try:
        return make(began["params"])
    except (msgspec.ValidationError, KeyError) as error:
        message = f"the parameters of {command} in the journal cannot be used: {error}"
        raise CtlError("journal_damaged", message, hint="use the version that began the run") from error
