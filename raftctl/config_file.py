"""The user's contexts: which clusters there are, how they are reached, and which one is meant without being named.

The file belongs to its user: it is changed line by line, so comments and order stay, and what was written is parsed again
before it replaces the old one. An unknown key is an error that names the nearest known one.
Source: contract section 5.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from raftctl import interrupts
from raftctl.config_place import config_path
from raftctl.errors import CtlError

DRIVERS: Final = ("http", "local", "command", "manual")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_HEADER: Final = re.compile(r"\s*\[([^\[\]]+)\]\s*(#.*)?")
_CURRENT: Final = re.compile(r"\s*current-context\s*=")


class NodeEntry(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """How runbooks stop, wipe and start one node. `time_limit`: for one command of the `command` driver."""

    driver: str = "http"
    stop: str | None = None
    wipe: str | None = None
    restore: str | None = None
    start: str | None = None
    time_limit: str | None = None


class ContextEntry(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """One cluster. Relative paths are relative to the file. `sandbox`: where `dev up` keeps it."""

    endpoints: tuple[str, ...]
    token_file: str | None = None
    cacert: str | None = None
    cert: str | None = None
    key: str | None = None
    timeout: str | None = None
    request_timeout: str | None = None
    output: str | None = None
    sandbox: str | None = None
    nodes: dict[int, NodeEntry] = {}


class ConfigFile(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    current_context: str | None = None
    contexts: dict[str, ContextEntry] = {}


def read_config(path: Path | None = None) -> ConfigFile:
    """Return the file's contents; no file: no context.

    Raises: CtlError: config.
    """
    path = path or config_path()
    return _parse(_text(path), path)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise CtlError("config", f"{path} cannot be read: {error}") from error


def _parse(text: str, path: Path) -> ConfigFile:
    if not text:
        return ConfigFile()
    import tomli

    try:
        document = tomli.loads(text)
    except (tomli.TOMLDecodeError, RecursionError) as error:  # the latter: nested without end
        raise CtlError("config", f"{path} is not TOML: {error}") from error
    try:
        with interrupts.held_back():
            config = msgspec.convert(document, ConfigFile, strict=False)
    except msgspec.ValidationError as error:
        raise CtlError("config", f"{path}: {error}", hint=_nearest_hint(str(error))) from error
    for name, context in config.contexts.items():
        for node_id, node in context.nodes.items():
            if node.driver not in DRIVERS:
                where = f"contexts.{name}.nodes.{node_id}.driver"
                raise CtlError("config", f"{path}: {where} is {node.driver!r}", hint=f"known are: {', '.join(DRIVERS)}")
        if not context.endpoints:
            raise CtlError("config", f"{path}: contexts.{name}.endpoints is empty", hint="name at least one management URL")
    return config


def _nearest_hint(error: str) -> str:
    """Return which known key an unknown one resembles."""
    import difflib

    unknown = re.search(r"unknown field `([^`]+)`", error)
    if unknown is None:
        return "see: raftctl config view"
    known = [field.encode_name for kind in (ConfigFile, ContextEntry, NodeEntry) for field in msgspec.structs.fields(kind)]
    nearest = difflib.get_close_matches(unknown[1], known, 1)
    return f"did you mean {nearest[0]}?" if nearest else f"known keys are: {', '.join(sorted(set(known)))}"


# -- changing it -------------------------------------------------------------------------------------------------------


def check_name(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise CtlError("usage", f"{name!r} is no name for a context", hint="letters, digits, _ and -, at most 64")
    return name


def use_context(name: str, path: Path | None = None) -> None:
    """Make `name` the current context. Raises: CtlError: there is none of that name."""
    path = path or config_path()
    config = read_config(path)
    if name not in config.contexts:
        raise no_such_context(name, config)
    _replace(path, _with_current(_text(path), name), msgspec.structs.replace(config, current_context=name))


def add_context(name: str, entry: ContextEntry, *, replace: bool = False, path: Path | None = None) -> bool:
    """Add a context, and make it the current one if there is none; return whether it is current now."""
    path = path or config_path()
    config = read_config(path)
    check_name(name)
    if name in config.contexts and not replace:
        raise CtlError(
            "config", f"there is a context {name!r} already", hint=f"raftctl context remove {name}, or choose another name"
        )
    current = config.current_context if config.current_context in config.contexts else None
    current = current or name
    text = _without_context(_text(path), name)
    text = (text.rstrip("\n") + "\n\n" if text.strip() else "") + _as_toml(name, entry)
    wanted = ConfigFile(current, {**config.contexts, name: entry})
    _replace(path, _with_current(text, current), wanted)
    return current == name


def remove_context(name: str, path: Path | None = None) -> None:
    """Remove a context. If it was the current one, there is no current one afterwards."""
    path = path or config_path()
    config = read_config(path)
    if name not in config.contexts:
        raise no_such_context(name, config)
    current = config.current_context if config.current_context != name else None
    rest = {other: entry for other, entry in config.contexts.items() if other != name}
    _replace(path, _with_current(_without_context(_text(path), name), current), ConfigFile(current, rest))


def no_such_context(name: str, config: ConfigFile) -> CtlError:
    import difflib

    nearest = difflib.get_close_matches(name, config.contexts, 1)
    known = ", ".join(sorted(config.contexts)) or "none"
    hint = f"did you mean {nearest[0]}?" if nearest else "see: raftctl context list"
    return CtlError("config", f"there is no context {name!r}; known are: {known}", hint=hint)


def _with_current(text: str, name: str | None) -> str:
    """Return `text` with its line for the current context set, added at the top, or taken out."""
    lines = text.splitlines(keepends=True)
    head = next((number for number, line in enumerate(lines) if _HEADER.fullmatch(line.rstrip("\n"))), len(lines))
    kept = [line for line in lines[:head] if not _CURRENT.match(line)]
    where = next((number for number, line in enumerate(lines[:head]) if _CURRENT.match(line)), 0)
    if name is not None:
        kept.insert(where, f"current-context = {_quoted(name)}\n")
    return "".join([*kept, *lines[head:]])


def _without_context(text: str, name: str) -> str:
    """Return `text` without the tables of that context."""
    kept: list[str] = []
    inside = False
    for line in text.splitlines(keepends=True):
        header = _HEADER.fullmatch(line.rstrip("\n"))
        if header is not None:
            parts = [part.strip().strip("\"'") for part in header[1].split(".")]
            inside = parts[:2] == ["contexts", name]
        if not inside:
            kept.append(line)
    return "".join(kept)


def _as_toml(name: str, entry: ContextEntry) -> str:
    lines = [f"[contexts.{name}]", f"endpoints = {_quoted_list(entry.endpoints)}"]
    for field in msgspec.structs.fields(ContextEntry):
        value = getattr(entry, field.name)
        if isinstance(value, str):
            lines.append(f"{field.encode_name} = {_quoted(value)}")
    for node_id, node in sorted(entry.nodes.items()):
        lines += ["", f"[contexts.{name}.nodes.{node_id}]"]
        lines += [f"{key} = {_quoted(value)}" for key, value in msgspec.structs.asdict(node).items() if value is not None]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A TOML basic string; JSON's escapes are a subset of TOML's."""
    return msgspec.json.encode(text).decode().replace("\x7f", "\\u007f")


def _quoted_list(items: Sequence[str]) -> str:
    return "[" + ", ".join(map(_quoted, items)) + "]"


def _replace(path: Path, text: str, wanted: ConfigFile) -> None:
    """Write the file in one step, after making sure that it says what is wanted."""
    if _parse(text, path) != wanted:
        raise CtlError(
            "config",
            f"{path} is written in a way this program cannot change safely; nothing was changed",
            hint="edit it by hand",
        )
    import tempfile

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".config-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError as error:
        raise CtlError("config", f"{path} cannot be written: {error.strerror}", hint="see RAFTCTL_CONFIG") from error
