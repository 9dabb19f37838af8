"""An embeddable Raft engine: a pure consensus core, durable storage, peer transport and a management endpoint.

Names are loaded when they are first used (PEP 562), so importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raft_engine.build import is_compiled
    from raft_engine.config import Config
    from raft_engine.errors import AllowNextRevertError, Fatal, ForwardToLeader, NodeNotFound, RaftError, SessionExpired
    from raft_engine.runtime.embed import open_raft
    from raft_engine.runtime.exactly_once import ExactlyOnce, SessionTable
    from raft_engine.runtime.initialize import initialize
    from raft_engine.runtime.raft import Raft
    from raft_engine.runtime.session import Session
    from raft_engine.storage.interface import LogStorage, StateMachine
    from raft_engine.transport.interface import Transport
    from raft_engine.types.entry import Entry, EntryKind
    from raft_engine.types.log_id import BEFORE_LOG, LogId
    from raft_engine.types.metrics import RaftMetrics, ServerState
    from raft_engine.types.outcomes import Expectation

__version__ = "0.1.0"

_HOMES = {
    "AllowNextRevertError": "raft_engine.errors",
    "BEFORE_LOG": "raft_engine.types.log_id",
    "Config": "raft_engine.config",
    "Entry": "raft_engine.types.entry",
    "EntryKind": "raft_engine.types.entry",
    "ExactlyOnce": "raft_engine.runtime.exactly_once",
    "Expectation": "raft_engine.types.outcomes",
    "Fatal": "raft_engine.errors",
    "ForwardToLeader": "raft_engine.errors",
    "LogId": "raft_engine.types.log_id",
    "LogStorage": "raft_engine.storage.interface",
    "NodeNotFound": "raft_engine.errors",
    "Raft": "raft_engine.runtime.raft",
    "RaftError": "raft_engine.errors",
    "RaftMetrics": "raft_engine.types.metrics",
    "ServerState": "raft_engine.types.metrics",
    "Session": "raft_engine.runtime.session",
    "SessionExpired": "raft_engine.errors",
    "SessionTable": "raft_engine.runtime.exactly_once",
    "StateMachine": "raft_engine.storage.interface",
    "Transport": "raft_engine.transport.interface",
    "initialize": "raft_engine.runtime.initialize",
    "is_compiled": "raft_engine.build",
    "open_raft": "raft_engine.runtime.embed",
}

__all__ = [
    "BEFORE_LOG",
    "AllowNextRevertError",
    "Config",
    "Entry",
    "EntryKind",
    "ExactlyOnce",
    "Expectation",
    "Fatal",
    "ForwardToLeader",
    "LogId",
    "LogStorage",
    "NodeNotFound",
    "Raft",
    "RaftError",
    "RaftMetrics",
    "ServerState",
    "Session",
    "SessionExpired",
    "SessionTable",
    "StateMachine",
    "Transport",
    "__version__",
    "initialize",
    "is_compiled",
    "open_raft",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
