"""watch: what happens in the cluster, as it happens."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

from raftctl.deadline import takes
from raftctl.errors import ExitCode, usage
from raftctl.session import Session

if TYPE_CHECKING:
    import typer

    from raftctl.completion import complete_nodes
    from raftctl.watching import Event


@takes(None)
def watch(
    session: Session,
    node: Annotated[
        int | None,
        typer.Option("--node", min=1, metavar="N", help="Only this node; default: all.", autocompletion=complete_nodes),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--kind", metavar="KIND", help="Only such events: leader, term, membership, replication, …; repeatable."
        ),
    ] = None,
    count: Annotated[int | None, typer.Option("--count", min=1, metavar="N", help="End after so many.")] = None,
    seconds: Annotated[str | None, typer.Option("--for", metavar="TIME", help="End after this time.")] = None,
) -> None:
    """Show events of all nodes as they happen: elections, members, snapshots, alarms, nodes that come and go.

    It begins with what each node is now. With -o json or -o jsonl each event is a document on one line.
    """
    from raftctl.durations import parse_duration
    from raftctl.watching import KINDS, Watch

    unknown = [word for word in kind or [] if word not in KINDS]
    if unknown:
        raise usage(f"--kind {unknown[0]} is none of {', '.join(KINDS)}")
    deadline: float | None = None
    if seconds is not None:
        for_s = parse_duration(seconds, "--for")
        deadline = time.monotonic() + for_s
        session.deadline.begin(for_s, "--for")
    survey = session.survey()
    known = [report.node_id for report in survey.nodes if report.node_id is not None and report.management]
    if node is not None and node not in known:
        raise usage(f"there is no node {node}; known are {', '.join(map(str, known))}", "see: raftctl nodes")
    following = Watch(session.client)
    for one in [node] if node is not None else known:
        following.listen_to(one)
    shown = 0
    try:
        for event in following.events(deadline):
            if kind and event.kind not in kind:
                continue
            _show(session, event)
            shown += 1
            if shown == count:
                return
    except KeyboardInterrupt:
        session.exit_code = ExitCode.INTERRUPTED
    finally:
        following.close()


def _show(session: Session, event: Event) -> None:
    from raftctl.output.document import now
    from raftctl.output.tables import Tone
    from raftctl.watching import sentence

    tones = {"leader": Tone.STRONG, "alarm": Tone.BAD, "connection": Tone.WARN, "status": Tone.DIM}
    output = session.output
    at = now()
    line = f"{at[11:23]}  node {event.node}  {event.kind:<11}  {sentence(event)}"
    data = {"node": event.node, "event": event.kind, "id": event.event_id, "data": event.data}
    output.show_one_of_many("event", data, output.line(line, tones.get(event.kind, Tone.PLAIN)), name=event.kind)
