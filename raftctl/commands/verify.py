"""verify digest: do all nodes hold the same data at the same entry?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from raftctl.deadline import takes
from raftctl.session import Session

if TYPE_CHECKING:
    import typer

_TIMEOUT_S: Final = 300.0
"""A digest is computed beside the writes: 8 s for a million keys, minutes for ten million."""


@takes(_TIMEOUT_S)
def digest(
    session: Session,
    at: Annotated[
        int | None,
        typer.Option("--at", min=1, metavar="INDEX", help="At this entry, which a barrier has marked; default: now."),
    ] = None,
) -> None:
    """Compare the digests of all nodes' state machines at one entry: exit 0 equal, 14 not, 10 somebody is missing.

    While writes go on, the nodes are never at one entry at the same moment; then an entry that does nothing is appended to
    mark one.
    """
    from raftctl.digests import compare, judged, view_of

    verdict = compare(session, at)
    session.output.show(
        "digests", judged(verdict), view_of(session.output, verdict), items=judged(verdict)["nodes"], names=verdict.names
    )
    session.exit_code = verdict.exit_code
