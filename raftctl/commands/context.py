"""Contexts and the file they stand in: which clusters there are and which one is meant."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from raftctl.deadline import takes
from raftctl.errors import usage
from raftctl.session import Session

if TYPE_CHECKING:
    import typer

    from raftctl.completion import complete_contexts
    from raftctl.options import ContextArgument


@takes(None)
def list_contexts(session: Session) -> None:
    """List the contexts; * marks the current one."""
    from raftctl.config_file import read_config
    from raftctl.output.tables import Column, Table

    config = read_config()
    current = session.settings.context_name
    items = [
        {"name": name, "current": name == current, "endpoints": list(entry.endpoints)}
        for name, entry in sorted(config.contexts.items())
    ]
    rows = [
        ["*" if item["current"] else "", str(item["name"]), ", ".join(config.contexts[str(item["name"])].endpoints)]
        for item in items
    ]
    table = Table([Column(""), Column("NAME"), Column("ENDPOINTS")], rows)
    if not items:
        session.output.note("no contexts yet; raftctl context add NAME --endpoint URL")
    session.output.show(
        "contexts", {"items": items}, [table] if items else [], items=items, names=[item["name"] for item in items]
    )


@takes(None)
def show(
    session: Session, name: Annotated[str | None, typer.Argument(metavar="[NAME]", autocompletion=complete_contexts)] = None
) -> None:
    """Show one context; default: the current one."""
    import msgspec

    from raftctl.config_file import no_such_context, read_config

    config = read_config()
    chosen = name or session.settings.context_name
    if chosen is None:
        raise usage("there is no current context", "raftctl context use NAME")
    if chosen not in config.contexts:
        raise no_such_context(chosen, config)
    data: dict[str, Any] = {"name": chosen, **msgspec.to_builtins(config.contexts[chosen], str_keys=True)}
    session.output.show(
        "context", data, [f"{key}: {_flat(value)}" for key, value in data.items() if value not in (None, {})], names=[chosen]
    )


def _flat(value: object) -> str:
    from raftctl.output.text import printable

    if isinstance(value, list | tuple):
        return ", ".join(printable(str(item)) for item in value)
    return printable(str(value))


@takes(None)
def use(session: Session, name: ContextArgument) -> None:
    """Make a context the current one."""
    from raftctl.config_file import use_context

    if session.flags.dry_run:
        session.output.show("plan", {"use": name}, [f"would make {name} the current context"], names=[name])
        return
    use_context(name)
    session.output.show("context", {"name": name, "current": True}, [f"current context: {name}"], names=[name])


@takes(None)
def add(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    driver: Annotated[
        list[str] | None,
        typer.Option("--driver", metavar="NODE=http|local|manual", help="How runbooks stop and start a node; repeatable."),
    ] = None,
) -> None:
    """Add a context with the endpoints given by --endpoint."""
    from raftctl.config_file import ContextEntry, NodeEntry, add_context

    flags = session.flags
    if not flags.endpoint:
        raise usage("a context needs endpoints", "raftctl context add NAME --endpoint URL --endpoint URL")
    drivers = dict(_parse_driver(text) for text in driver or [])
    entry = ContextEntry(
        endpoints=session.settings.endpoints,
        token_file=_absolute(flags.token_file),
        cacert=_absolute(flags.cacert),
        cert=_absolute(flags.cert),
        key=_absolute(flags.key),
        timeout=flags.timeout,
        request_timeout=flags.request_timeout,
        output=flags.output.value if flags.output else None,
        nodes={node_id: NodeEntry(driver=word) for node_id, word in drivers.items()},
    )
    if flags.dry_run:
        session.output.show("plan", {"add": name}, [f"would add the context {name}"], names=[name])
        return
    current = add_context(name, entry)
    told = f"added: {name}{' (current)' if current else ''}"
    session.output.show(
        "context", {"name": name, "current": current, "endpoints": list(entry.endpoints)}, [told], names=[name]
    )


def _parse_driver(text: str) -> tuple[int, str]:
    node_id, equals, word = text.partition("=")
    if not equals or not node_id.isdecimal() or word not in {"http", "local", "manual"}:
        hint = "write --driver 3=http, 3=local or 3=manual; what command runs stands in the configuration file"
        raise usage(f"--driver {text}: not a driver", hint)
    return int(node_id), word


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())


@takes(None)
def remove(session: Session, name: ContextArgument) -> None:
    """Remove a context; the cluster is not touched."""
    from raftctl.config_file import remove_context

    if session.flags.dry_run:
        session.output.show("plan", {"remove": name}, [f"would remove the context {name}"], names=[name])
        return
    remove_context(name)
    session.output.show("context", {"name": name, "removed": True}, [f"removed: {name}"], names=[name])


@takes(None)
def config_path(session: Session) -> None:
    """Show where the configuration file is."""
    from raftctl import config_place

    path = config_place.config_path()
    session.output.show("config-path", {"path": str(path), "exists": path.exists()}, [str(path)], names=[path])


@takes(None)
def config_view(session: Session) -> None:
    """Show the configuration file as it is understood."""
    import msgspec

    from raftctl.config_file import read_config
    from raftctl.config_place import config_path as path_of

    config = read_config()
    path = path_of()
    text = path.read_text("utf-8") if path.exists() else ""
    data = msgspec.to_builtins(config, str_keys=True)
    session.output.show("config", data, [text.rstrip("\n")] if text else [], names=sorted(config.contexts))
