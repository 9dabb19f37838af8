"""explain: what an action would mean for the cluster, with its options; nothing is done.

Each command here is the one that would act, run by a session that only explains: the same options, the same plan.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from raftctl.commands import member as members
from raftctl.commands import operations, rejoin, trigger
from raftctl.session import Session


def _explaining(function: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(function)
    def explain(session: Session, **values: object) -> None:
        session.only_explain()
        function(session, **values)

    explain.__module__ = __name__
    return explain


elect = _explaining(trigger.elect)
heartbeat = _explaining(trigger.heartbeat)
snapshot = _explaining(trigger.snapshot)
purge_log = _explaining(trigger.purge_log)
transfer_leader = _explaining(trigger.transfer_leader)
allow_next_revert = _explaining(trigger.allow_next_revert)
add = _explaining(members.add)
promote = _explaining(members.promote)
demote = _explaining(members.demote)
remove = _explaining(members.remove)
rejoin_node = _explaining(rejoin.rejoin_node)
replace_node = _explaining(operations.replace_node)
rolling_restart = _explaining(operations.rolling_restart)
drain = _explaining(operations.drain)
