"""Changing how the cluster is set up: init and the runtime configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from raftctl.errors import CtlError, usage
from raftctl.session import Session

if TYPE_CHECKING:
    import typer

    from raftctl.model import Address
    from raftctl.options import NodeOption
    from raftctl.survey import NodeReport

_FLAGS = ("enable_tick", "enable_heartbeat", "enable_elect", "enable_pre_vote")


def init(
    session: Session,
    member: Annotated[
        list[str] | None,
        typer.Option(
            "--member",
            metavar="ID=RAFT,URL",
            help="A first member: its id, raft address and management URL; repeatable. Default: the endpoints that answer.",
        ),
    ] = None,
    abort: Annotated[bool, typer.Option("--abort", help="Forget a preparation that never started.")] = False,
) -> None:
    """Give birth to the cluster with its first members."""
    from raftctl.actions import Action, perform, wait_s
    from raftctl.confirm import Tier
    from raftctl.output.text import listed

    survey = session.survey()
    members = {} if abort else _members(session, member or [])
    cluster = survey.cluster
    steps = [
        f"node {node_id}: raft {address.raft}, management {address.management}"
        for node_id, address in sorted(members.items())
    ]
    action = Action(
        name="init",
        what=f"aborting the init of cluster {cluster}"
        if abort
        else f"init of cluster {cluster} with node {listed(sorted(members))}",
        node=survey.statuses[0].node_id,
        requested={"abort": True} if abort else {"members": sorted(members)},
        tier=Tier.MILD,
        cluster=cluster,
        send=session.client.abort_init if abort else lambda: session.client.init(members, wait_s=wait_s(session)),
        seen=lambda after: (
            f"node {after.leader.node_id} leads term {after.leader.term}" if after.leader is not None else None
        ),
        steps=steps,
    )
    perform(session, [action])


def _members(session: Session, given: list[str]) -> dict[int, Address]:
    """Return the members that were named; else all nodes at the endpoints, which must all answer."""
    if given:
        return dict(parse_member(text) for text in given)
    import msgspec

    from raftctl.model import Address
    from raftctl.survey import EVERYBODY

    survey = session.client.cluster(patient_with=EVERYBODY)
    silent = [node.management for node in survey.nodes if node.status is None]
    if silent:
        raise CtlError(
            "unreachable",
            f"these endpoints do not answer: {', '.join(silent)}",
            hint="start them, or name the members: --member",
        )
    advertised = {
        node.node_id: msgspec.convert((node.raw or {}).get("advertised", {}), Address)
        for node in survey.nodes
        if node.node_id is not None
    }
    if not all(address.raft and address.management for address in advertised.values()):
        raise usage("the nodes do not tell their addresses", "name them: --member ID=RAFT,URL")
    return advertised


def parse_member(text: str) -> tuple[int, Address]:
    """Return id and addresses of `ID=RAFT,URL`. Raises: CtlError: usage."""
    from raftctl.model import Address

    node_id, equals, addresses = text.partition("=")
    raft, comma, management = addresses.partition(",")
    if not equals or not comma or not node_id.isdecimal() or int(node_id) == 0 or not raft or "://" not in management:
        raise usage(f"{text!r} is not a member", "write ID=RAFT,URL, as in 1=127.0.0.1:9201,http://127.0.0.1:9101")
    return int(node_id), Address(raft=raft, management=management)


def runtime_config_get(session: Session, node: NodeOption = None) -> None:
    """Show what the timers do by themselves."""
    from raftctl.output.tables import Cell, Column, Table, Tone
    from raftctl.trigger_actions import reached

    survey = session.survey(patient_with=() if node is None else [node])
    chosen = survey.nodes
    if node is not None:
        reached(survey, node)
        chosen = tuple(report for report in survey.nodes if report.node_id == node)
    items = [_flags_of(report) for report in chosen]
    rows: list[list[Cell | str]] = []
    for item in items:
        who = "?" if item["node"] is None else str(item["node"])
        flags = ["-" if item[name] is None else _word(on=bool(item[name])) for name in _FLAGS]
        rows.append([who, *flags, Cell(str(item["error"] or ""), Tone.BAD)])
        if item["error"]:
            session.output.warn(f"node {who} does not tell: {item['error']}")
    columns = [Column("NODE", right=True), *(Column(name.upper()) for name in _FLAGS), Column("NOTE")]
    names = [item["node"] for item in items if item["node"] is not None]
    session.output.show("runtime-config", {"items": items}, [Table(columns, rows)], items=items, names=names)


def _flags_of(report: NodeReport) -> dict[str, object]:
    status = report.status
    if status is None:
        why = report.error.detail if report.error is not None else "no answer"
        return {"node": report.node_id, **dict.fromkeys(_FLAGS), "error": why}
    flags = {name: getattr(status.runtime_config, name) for name in _FLAGS}
    return {"node": status.node_id, **flags, "error": None}


def runtime_config_set(
    session: Session,
    setting: Annotated[
        list[str],
        typer.Argument(metavar="NAME=on|off...", help="enable_tick, enable_heartbeat, enable_elect, enable_pre_vote."),
    ],
    node: NodeOption = None,
) -> None:
    """Switch what the timers do by themselves; triggers work all the same."""
    from raftctl.actions import Action, perform, wait_s
    from raftctl.confirm import Tier
    from raftctl.survey import Survey
    from raftctl.trigger_actions import leader_of, reached

    flags = dict(map(_parse_flag, setting))
    survey = session.survey_with_leader() if node is None else session.survey(patient_with=[node])
    leader = leader_of(session, survey) if node is None else None
    chosen = node or (leader.node_id if leader is not None else survey.statuses[0].node_id)
    before = reached(survey, chosen).runtime_config
    steps = [
        f"node {chosen}: {name} {_word(on=getattr(before, name))} -> {_word(on=value)}" for name, value in flags.items()
    ]

    def seen(after: Survey) -> str | None:
        status = after.status(chosen)
        if status is None or any(getattr(status.runtime_config, name) is not value for name, value in flags.items()):
            return None
        return ", ".join(f"{name} is {_word(on=value)}" for name, value in flags.items())

    action = Action(
        name="runtime_config",
        what=f"switching {', '.join(flags)} of node {chosen} of cluster {survey.cluster}",
        node=chosen,
        requested=dict(flags),
        tier=Tier.MILD if all(flags.values()) else Tier.MODERATE,
        cluster=survey.cluster,
        send=lambda: session.client.set_runtime_config(chosen, flags, wait_s=wait_s(session)),
        seen=seen,
        steps=steps,
    )
    perform(session, [action])


def _word(*, on: bool) -> str:
    return "on" if on else "off"


def _parse_flag(text: str) -> tuple[str, bool]:
    name, equals, value = text.partition("=")
    name = name.replace("-", "_")
    words = {"on": True, "true": True, "off": False, "false": False}
    if name not in _FLAGS or not equals or value.lower() not in words:
        raise usage(f"{text!r} is not a setting", f"write NAME=on or NAME=off; names are {', '.join(_FLAGS)}")
    return name, words[value.lower()]
