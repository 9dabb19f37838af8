"""A runbook as a file: what it may say, and what is wrong with one that says something else.

    name = "patch-night"
    about = "A snapshot everywhere, then each node restarted by the site's own commands."

    [parameters.unit]                 # a value for {unit}; without a default it must be given with --set unit=…
    about = "The service's name."
    default = "raft"

    [[steps]]
    do = "snapshot"                   # heartbeat, snapshot, purge-log, elect, transfer-leader, drain, undrain, restart, wait, command, manual
    nodes = "all"                     # all, voters, learners, followers, leader, or a list of ids

    [[steps]]
    do = "command"
    nodes = [1, 2]
    run = "ssh node{node} systemctl reload {unit}"    # no shell; runs again after a crash, so twice must do no harm
    undo = "ssh node{node} systemctl reload {unit}"
    time-limit = "2m"

Everything is checked before anything is done; an error names the step, its line and what may stand there.
Source: field notes A.3.11.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import tomli
from msgspec import Meta

from raftctl.durations import parse_duration
from raftctl.errors import CtlError
from raftctl.survey import Survey

BYTES_MAX: Final = 256 * 1024
GROUPS: Final = ("all", "voters", "learners", "followers", "leader")
BUILT_IN: Final = frozenset({"node", "cluster"})
"""Names that need no parameter."""
_STEP_HEADER: Final = re.compile(r"^\s*\[\[\s*steps\s*\]\]", re.MULTILINE)
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")

_MISSING: Final = re.compile(r"missing required field `([\w-]+)`")
_EXAMPLES: Final = {
    "name": 'put name = "…" before the first step',
    "steps": 'a step begins with [[steps]] and a line such as do = "snapshot"',
    "do": 'do = "snapshot", for instance',
}

ACTIONS: Final[Mapping[str, tuple[frozenset[str], frozenset[str]]]] = {
    # action: (words it needs, words it may have); a time-limit goes with each
    "heartbeat": (frozenset(), frozenset()),
    "snapshot": (frozenset({"nodes"}), frozenset()),
    "purge-log": (frozenset({"nodes", "upto"}), frozenset()),
    "elect": (frozenset({"nodes"}), frozenset()),
    "transfer-leader": (frozenset({"nodes"}), frozenset()),
    "drain": (frozenset({"nodes"}), frozenset()),
    "undrain": (frozenset({"nodes"}), frozenset()),
    "restart": (frozenset({"nodes"}), frozenset({"driver"})),
    "wait": (frozenset({"until"}), frozenset()),
    "command": (frozenset({"run"}), frozenset({"nodes", "undo"})),
    "manual": (frozenset({"say", "until"}), frozenset({"nodes"})),
}
UNTIL: Final = ("healthy", "leader", "up", "down")
"""`healthy`: nothing is missing; `leader`: one leads; `up`, `down`: of a manual step, its node."""


class Parameter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    about: str = ""
    default: str | None = None


class StepEntry(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True, kw_only=True):
    """One `[[steps]]` table; which words go with which action: `ACTIONS`."""

    do: str
    name: str = ""
    nodes: str | int | list[str | int] | None = None
    upto: str | int | None = None
    driver: str | None = None
    until: str | None = None
    run: str | None = None
    undo: str | None = None
    say: str | None = None
    time_limit: str | None = None


class RunbookFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole file."""

    name: str
    about: str = ""
    parameters: dict[str, Parameter] = {}
    steps: Annotated[list[StepEntry], Meta(min_length=1)]


def read_text(path: Path) -> str:
    """Raises: CtlError: `not_found_here`; config, it cannot be read."""
    hint = "raftctl runbook list shows those that are known by name"
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise CtlError("not_found_here", f"there is no file {path}", hint=hint) from error
    except OSError as error:
        raise CtlError("config", f"{path} cannot be read: {error.strerror}", hint=hint) from error
    if len(data) > BYTES_MAX:
        raise CtlError("config", f"{path} has {len(data)} bytes; a runbook has at most {BYTES_MAX}")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise CtlError("config", f"{path} is not UTF-8 text: byte {error.start}") from error


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def parse(text: str, where: str) -> RunbookFile:
    """Return the runbook in `text`. Raises: CtlError: config, naming `where`, the step and its line."""
    try:
        document = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise CtlError("config", f"{where} is not TOML: {error}") from error
    try:
        file = msgspec.convert(document, RunbookFile)
    except msgspec.ValidationError as error:
        raise CtlError(
            "config", f"{where}{_line_of(text, str(error))}: {_plainly(str(error))}", hint=_hint(str(error))
        ) from error
    if _NAME.fullmatch(file.name) is None:
        raise CtlError(
            "config", f"{where}: name = {file.name!r} is no name", hint="letters, digits, - and _, a letter first"
        )
    for name in file.parameters:
        if _NAME.fullmatch(name) is None or name in BUILT_IN:
            raise CtlError("config", f"{where}: parameters.{name} is no name for a parameter")
    for number, step in enumerate(file.steps, start=1):
        _check(step, {*file.parameters, *BUILT_IN}, place_of(text, where, number))
    return file


def _lines(text: str) -> list[int]:
    """Return the line of each step's header; inline tables have none, then the first line stands for all."""
    found = [text.count("\n", 0, match.start()) + 1 for match in _STEP_HEADER.finditer(text)]
    return found or [1]


def place_of(text: str, where: str, number: int) -> str:
    """Return where the step of this number, from 1, is: `night.toml, line 9: step 2`."""
    lines = _lines(text)
    return f"{where}, line {lines[min(number, len(lines)) - 1]}: step {number}"


def _line_of(text: str, message: str) -> str:
    match = re.search(r"\$\.steps\[(\d+)\]", message)
    lines = _lines(text)
    if match is None:
        return ", line 1" if _MISSING.search(message) else ""
    return f", line {lines[min(int(match[1]), len(lines) - 1)]}"


def _plainly(message: str) -> str:
    """Return what is wrong, and where, in this language's words."""
    what, _, path = message.partition(" - at `$")
    step = re.match(r"\.steps\[(\d+)\]\.?", path)
    word = (path[step.end() :] if step else path).strip(".`")
    where = (f"step {int(step[1]) + 1}" if step else "the runbook") + (f", {word}" if word else "")
    missing, unknown = _MISSING.search(what), re.search(r"unknown field `(.+)`", what)
    if missing is not None:
        return f"{where} has no {missing[1]}"
    if unknown is not None:
        return f"{where} has a word that is none: {unknown[1]}"
    if "length >= 1" in what:
        return "the runbook has no steps"
    return f"{where}: {what[:1].lower()}{what[1:]}"


def _hint(message: str) -> str:
    missing = _MISSING.search(message)
    if missing is not None:
        return _EXAMPLES.get(missing[1], "")
    return f"a step may have: {', '.join(sorted(_step_words()))}" if "unknown field" in message else ""


def _step_words() -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(StepEntry)}


def _check(step: StepEntry, names: set[str], where: str) -> None:
    words = ACTIONS.get(step.do)
    if words is None:
        raise CtlError("config", f"{where}: there is no action {step.do!r}", hint=f"known are: {', '.join(ACTIONS)}")
    needs, may = words[0], words[1] | {"time-limit"}
    said = {name for name in _step_words() if getattr(step, name.replace("-", "_")) not in (None, "")} - {"do", "name"}
    missing, surplus = sorted(needs - said), sorted(said - needs - may)
    if missing:
        raise CtlError("config", f"{where}: {step.do} needs {', '.join(missing)}")
    if surplus:
        allowed = ", ".join(sorted(needs | may)) or "nothing"
        raise CtlError("config", f"{where}: {step.do} takes no {', '.join(surplus)}", hint=f"it takes: {allowed}")
    if step.until is not None and step.until not in UNTIL:
        raise CtlError("config", f"{where}: until = {step.until!r}", hint=f"known are: {', '.join(UNTIL)}")
    if step.do == "wait" and step.until in {"up", "down"}:
        raise CtlError("config", f"{where}: wait is for the cluster", hint="until = healthy or leader")
    if step.time_limit is not None:
        try:
            parse_duration(step.time_limit, f"{where}: time-limit")
        except CtlError as error:
            raise CtlError("config", error.message, hint=error.hint) from error
    for word in ("nodes", "upto", "run", "undo", "say", "driver"):
        _check_template(getattr(step, word), names, f"{where}: {word}", is_command=word in {"run", "undo"})
    if isinstance(step.nodes, str) and step.nodes not in GROUPS and "{" not in step.nodes and not step.nodes.isdecimal():
        raise CtlError(
            "config", f"{where}: nodes = {step.nodes!r}", hint=f"known are: {', '.join(GROUPS)}, or a list of ids"
        )


def _check_template(value: Any, names: set[str], where: str, *, is_command: bool) -> None:
    for text in value if isinstance(value, list) else [value]:
        if not isinstance(text, str):
            continue
        try:
            words = shlex.split(text) if is_command else [text]
            for word in words:
                for _, name, spec, conversion in string.Formatter().parse(word):
                    if name is not None and (name not in names or spec or conversion):
                        known = ", ".join(f"{{{known}}}" for known in sorted(names))
                        raise CtlError("config", f"{where}: {{{name}}} stands for nothing", hint=f"known are {known}")
        except ValueError as error:
            raise CtlError("config", f"{where} is not a command: {error}", hint="quote it as for a shell") from error
        if is_command and not words:
            raise CtlError("config", f"{where} is empty")


def values_of(file: RunbookFile, given: Sequence[str], where: str) -> dict[str, str]:
    """Return every parameter's value. Raises: CtlError: usage, one is missing or unknown."""
    values = {name: entry.default for name, entry in file.parameters.items()}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name not in values:
            known = ", ".join(values) or "none"
            raise CtlError("usage", f"--set {text}: {where} has no such parameter", hint=f"as NAME=VALUE; it has: {known}")
        values[name] = value
    missing = [name for name, value in values.items() if value is None]
    if missing:
        abouts = "; ".join(f"{name}: {file.parameters[name].about or 'no word on it'}" for name in missing)
        raise CtlError("usage", f"{where} needs --set {missing[0]}=…", hint=abouts)
    return {name: value for name, value in values.items() if value is not None}


def filled(template: str, values: Mapping[str, object]) -> str:
    return template.format_map(values)


def nodes_of(step: StepEntry, values: Mapping[str, object], survey: Survey, where: str) -> list[int]:
    """Return the nodes that a step is for, the leader last. Raises: CtlError: config, somebody is no member."""
    membership = survey.membership
    members = {*membership.voters, *membership.learners}
    leader = survey.leader.node_id if survey.leader is not None else None
    groups: dict[str, set[int]] = {
        "all": members,
        "voters": {*membership.voters},
        "learners": {*membership.learners},
        "followers": members - {leader},
        "leader": {leader} if leader is not None else set(),
    }
    found: set[int] = set()
    listed = step.nodes if isinstance(step.nodes, list) else [] if step.nodes is None else [step.nodes]
    for item in listed:
        text = filled(item, values) if isinstance(item, str) else str(item)
        if text in groups:
            found |= groups[text]
        elif text.isdecimal() and int(text) in members:
            found.add(int(text))
        else:
            told = ", ".join(map(str, sorted(members)))
            raise CtlError("config", f"{where}: {text!r} is no member", hint=f"members are {told}; or {', '.join(GROUPS)}")
    return sorted(found, key=lambda node: (node == leader, node))
