"""Ordering a wipe so that a crash, or an answer that is lost, leaves no riddle; and taking it back.

Rules:
1. The order stands in the journal before it is given. The same order given twice wipes once, and is answered twice alike.
2. The order names the run of the engine that was stopped before the barrier. A request that arrives late, after the engine ran
   again, wipes nothing.
3. A wipe whose answer was lost is never taken for undone: while the engine has not run since, the order is repeated to learn
   where the old data is; once it has run, nobody can say, and only the way forward is left.
4. A wipe is taken back until the node's log holds more than the barrier. The node itself has the last word on that.
Source: design of rejoin (way A, step 5, and the rules for undoing it).
"""

from __future__ import annotations

from collections.abc import Callable

from raftctl.errors import CtlError
from raftctl.model import LogId, NodeStatus
from raftctl.runbook.drivers import Driver, WipeOrder, look
from raftctl.runbook.engine import Facts, Run, no_way_back


def order_of(run: Run) -> WipeOrder | None:
    """Return the order that stands in the journal."""
    return run.fact("wipe_order", WipeOrder)


def wipe(run: Run, target: int, driver: Driver, prepare: Callable[[], WipeOrder]) -> Facts:
    """Give the order; `prepare` makes it if there is none yet."""
    order = order_of(run)
    is_first = order is None
    if order is None:
        order = prepare()
        run.record(wipe_order=order)
    try:
        retired = driver.wipe(order)
    except CtlError as error:
        if is_first and not error.outcome_unknown and error.code != "command_failed":
            run.record(wipe_order=None)  # refused: there was none
            raise
        retired = _gone_on(run, target, order, error)
    return {"retired_to": retired, "summary": f"old data kept in {retired}" if retired else "its answer was lost"}


def _gone_on(run: Run, target: int, order: WipeOrder, error: CtlError) -> str:
    """The order went out, its answer did not come, and now it is refused: return if the node went on, whatever it did.

    Raises: CtlError: `error`, if it did not.
    """
    status = look(run.client, target)
    if status is None or status.stopped or status.life == order.life:
        raise error
    ran = "it recovers from that wipe" if recovers(status, order) else "it was wiped and has recovered, or was not wiped"
    run.note(f"node {target} was started since: {ran}; the run goes on to the proof")
    return str(run.facts.get("retired_to") or "")


def check_wiped(run: Run, target: int) -> None:
    """A node whose process is down shows nothing; one that is stopped, and recovers from nothing, was not wiped."""
    order = order_of(run)
    status = look(run.client, target)
    if status is not None and status.stopped and order is not None and not recovers(status, order):
        raise CtlError("not_observed", f"node {target} answers that it was wiped, and its status shows nothing of it")


def recovers(status: NodeStatus, order: WipeOrder) -> bool:
    return status.recovering is not None and status.recovering.until == order.recover_until


# -- taking it back ------------------------------------------------------------------------------------------------------


def why_not_taken_back(run: Run, target: int) -> str | None:
    """Return why the wipe cannot be taken back any more, None if it can as far as can be seen."""
    order = order_of(run)
    if order is None or run.facts.get("restore_asked"):
        return None  # nothing was wiped, or it is given back already: the node knows
    if not run.facts.get("retired_to") and (reason := _why_untraceable(run, target, order)) is not None:
        return reason
    status = look(run.client, target)
    if status is None:
        return None  # its files know better than a silent endpoint
    if status.incarnation != run.facts["incarnation"]:
        return f"node {target} lives another life: its vote is gone"
    if status.life == order.life:
        return None  # its engine has not run since
    if status.recovering is None:
        return f"node {target} has recovered: its log holds the barrier {order.recover_until}, and what came after"
    if _place(status.last_log) > _place(order.recover_until):
        return f"node {target} holds entries beyond the barrier {order.recover_until}, and has acknowledged them"
    return None


def take_back(run: Run, target: int, driver: Driver) -> None:
    """Bring the retired data back, if there was a wipe. Leaves the engine stopped, unless a person started it.

    Raises: CtlError: `point_of_no_return`.
    """
    order = order_of(run)
    if order is None:
        return
    retired = str(run.facts.get("retired_to") or "")
    if not retired and (reason := _why_untraceable(run, target, order)) is not None:
        raise no_way_back(reason)
    driver.stop()  # and whatever was asked of the node before is over
    retired = retired or _find_retired(run, target, driver, order)
    if retired:
        _give_back(run, target, driver, order, retired)


def _why_untraceable(run: Run, target: int, order: WipeOrder) -> str | None:
    """The answer was lost: once the engine ran again, nobody can say whether there is old data, and where."""
    status = look(run.client, target)
    ran = run.facts.get("ran_wiped") or (status is not None and status.life != order.life)
    return f"node {target} ran since the wipe was ordered, and the answer was lost" if ran else None


def _find_retired(run: Run, target: int, driver: Driver, order: WipeOrder) -> str:
    """Return where the data of a node is that has not run since; empty: nothing was wiped.

    Raises: CtlError: `point_of_no_return`, it was wiped and nobody knows where the data is.
    """
    status = look(run.client, target)
    if status is not None and not recovers(status, order):
        return ""
    # It was wiped, or its process is down and nobody can say. The same order again wipes once, and tells the name.
    retired = ""
    if driver.names_retired:
        try:
            retired = driver.wipe(order)
        except CtlError as error:
            if error.code != "command_failed":
                raise
            run.note(error.message)
    if retired:
        run.record(retired_to=retired)
        return retired
    driver.start()
    if recovers(run.client.status(target), order):
        raise no_way_back(f"node {target} was wiped, and the answer that named its old data was lost")
    return ""


def _give_back(run: Run, target: int, driver: Driver, order: WipeOrder, retired: str) -> None:
    if not driver.undoes_wipes:
        raise no_way_back(f"the context names no command that gives node {target} its data back")
    was_asked = run.facts.get("restore_asked") == retired
    run.record(restore_asked=retired)
    try:
        driver.restore(retired)
    except CtlError as error:
        if error.outcome_unknown or error.code == "unreachable":
            raise
        driver.start()
        # Refused: it has gone on too far; or an earlier request did it, and its answer was lost. The node knows.
        if not was_asked or recovers(run.client.status(target), order):
            run.record(restore_asked=None)
            raise no_way_back(f"node {target} does not take its old data back: {error.message}") from error


def _place(log_id: LogId | None) -> tuple[int, int]:
    """How far a log goes that ends with this entry, as elections compare it (paper 5.4.1)."""
    return (0, 0) if log_id is None else (log_id.term, log_id.index)
