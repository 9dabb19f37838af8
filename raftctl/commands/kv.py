"""The bundled key-value store: put, get, delete, list."""

from __future__ import annotations

import functools
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

from raftctl.deadline import takes
from raftctl.errors import CtlError, usage
from raftctl.session import Session

if TYPE_CHECKING:
    import typer

    from raftctl.model import Item, ItemList, WriteReply
    from raftctl.options import ConsistencyOption, KeyArgument

T = TypeVar("T")

_PAGE = 1000
"""Keys of one request: as many as the endpoint gives."""
_TRY_FOR_S = 10.0
"""An election and a slow disk fit into it; --timeout says otherwise."""
_TELL_AFTER_S = 1.0
"""So long a person waits without a word."""
_WHO_ANSWERS = "are the nodes running? see: raftctl status"
_LONGER = "until --timeout is over it is repeated, as one and the same write"


@takes(_TRY_FOR_S)
def put(
    session: Session,
    key: KeyArgument,
    value: Annotated[str | None, typer.Argument(metavar="[VALUE]", help="Or --file; - reads stdin.")] = None,
    file: Annotated[Path | None, typer.Option("--file", metavar="FILE", help="Take the value from a file.")] = None,
    if_revision: Annotated[
        int | None, typer.Option("--if-revision", min=1, metavar="N", help="Only if the key has this revision.")
    ] = None,
    if_absent: Annotated[bool, typer.Option("--if-absent", help="Only if there is no such key.")] = False,
) -> None:
    """Write a value; done when a quorum has it on disk."""
    if if_absent and if_revision is not None:
        raise usage("--if-absent and --if-revision exclude each other")
    data = _value(value, file)
    request_id = str(uuid.uuid4())
    if session.flags.dry_run:
        session.output.show(
            "plan", {"key": key, "bytes": len(data)}, [f"would write {len(data)} bytes to {key}"], names=[key]
        )
        return
    reply = _written(
        session,
        key,
        lambda: session.client.kv_put(key.encode(), data, revision=if_revision, create=if_absent, request_id=request_id),
    )
    _show_write(session, key, "written", reply)


@takes(_TRY_FOR_S)
def delete(
    session: Session,
    key: KeyArgument,
    if_revision: Annotated[
        int | None, typer.Option("--if-revision", min=1, metavar="N", help="Only if the key has this revision.")
    ] = None,
) -> None:
    """Delete a key; exit 0, too, when there is no such key."""
    request_id = str(uuid.uuid4())
    if session.flags.dry_run:
        session.output.show("plan", {"key": key}, [f"would delete {key}"], names=[key])
        return
    if if_revision is None and not _exists(session, key):
        from raftctl.output.text import printable

        data = {"key": key, "revision": None, "log_id": None, "changed": False, "observed": True}
        session.output.show("kv-write", data, [f"nothing to delete: there is no key {printable(key)}"], names=[key])
        return
    reply = _written(
        session, key, lambda: session.client.kv_delete(key.encode(), revision=if_revision, request_id=request_id)
    )
    _show_write(session, key, "deleted", reply)


def _exists(session: Session, key: str) -> bool:
    """Whether the key is there, linearizably: if it is not, deleting it now would do nothing."""
    try:
        _until_decided(session, lambda: session.client.kv_get(key.encode(), consistency="linearizable"))
    except CtlError as error:
        if error.code != "key_not_found":
            raise
        return False
    return True


@takes(_TRY_FOR_S)
def get(session: Session, key: KeyArgument, consistency: ConsistencyOption = "linearizable") -> None:
    """Read a value; piped, its bytes as they are."""
    import base64

    _check_consistency(consistency)
    try:
        found = _until_decided(session, lambda: session.client.kv_get(key.encode(), consistency=consistency))
    except CtlError as error:
        if error.code != "key_not_found":
            raise
        raise CtlError(error.code, f"there is no key {key}", status=error.status) from error
    if session.output.for_people:
        session.output.raw(found.value)
        return
    data = {
        "key": key,
        "value_base64": base64.b64encode(found.value).decode(),
        "value": _text(found.value),
        "revision": found.revision,
    }
    session.output.show("kv", data, [], names=[key])


@takes(_TRY_FOR_S, f"How long each {_PAGE} keys may take")
def list_keys(
    session: Session,
    prefix: Annotated[str, typer.Argument(metavar="[PREFIX]", help="Only keys that begin with it.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000_000, metavar="N", help="At most so many.")] = 1000,
    consistency: ConsistencyOption = "linearizable",
) -> None:
    """List keys and values in order of their bytes."""
    from raftctl.output.tables import Column, Table

    _check_consistency(consistency)
    found, more = _all_pages(session, prefix.encode(), limit, consistency)
    if more:
        session.output.warn(f"there are more keys than {limit}; see --limit")
    items = [
        {
            "key": item.key,
            "value_base64": _base64(item.value_base64),
            "value": _text(item.value_base64),
            "revision": item.revision,
        }
        for item in found
    ]
    table = Table(
        [Column("KEY"), Column("REVISION", right=True), Column("VALUE")],
        [[item.key, str(item.revision), item.value_base64.decode("utf-8", "backslashreplace")] for item in found],
    )
    session.output.show(
        "kv-list", {"items": items, "complete": not more}, [table], items=items, names=[item.key for item in found]
    )


def _all_pages(session: Session, prefix: bytes, limit: int, consistency: str) -> tuple[list[Item], bool]:
    found: list[Item] = []
    after: bytes | None = None

    def page_after(last: bytes | None, size: int) -> ItemList:
        return session.client.kv_list(prefix, after=last, limit=size, consistency=consistency)

    while True:
        session.deadline.restart()
        page = _until_decided(session, functools.partial(page_after, after, min(_PAGE, limit - len(found))))
        found += page.items
        if page.next is None or not page.items or len(found) >= limit:
            return found, page.next is not None
        after = page.next.encode() if page.next_base64 is None else page.next_base64


def _value(value: str | None, file: Path | None) -> bytes:
    if (value is None) == (file is None):
        raise usage("give either a value or --file", "raftctl kv put KEY VALUE")
    if value == "-":
        return sys.stdin.buffer.read()
    if file is None:
        return (value or "").encode("utf-8", "surrogateescape")
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        raise CtlError("not_found_here", f"there is no file {file}") from error
    except OSError as error:
        raise usage(f"{file} cannot be read: {error.strerror}") from error


def _written(session: Session, key: str, attempt: Callable[[], WriteReply]) -> WriteReply:
    """Return the reply to a write; where nobody knows whether it was carried out, say how to look."""
    from raftctl.output.text import for_shell

    session.changes.look_with = f"raftctl kv get {for_shell(key)}"
    try:
        reply = _until_decided(session, attempt)
    except CtlError as error:
        if error.code == "unclear_answer":
            error.hint = f"{error.hint}; then look with: {session.changes.look_with}"
        elif error.outcome_unknown:
            error.hint = f"it may have been carried out; look with: {session.changes.look_with}; {_LONGER}"
        raise
    session.changes.seen()
    return reply


def _until_decided(session: Session, attempt: Callable[[], T]) -> T:
    """Ask until the answer is final. Repeating a write is safe: its request id makes it happen once.

    Raises: CtlError: the final answer, or the last one when the time is over; an attempt that may have been carried out counts
        for more than a later one that was not.
    """
    try_for_s = session.timeout_s
    tell_at: float | None = time.monotonic() + _TELL_AFTER_S
    unknown: CtlError | None = None
    while True:
        try:
            return attempt()
        except CtlError as error:
            if not error.may_pass:
                raise
            unknown = error if error.outcome_unknown else unknown
            if not session.deadline.again(every_s=0.2):
                raise _given_up(error, unknown, try_for_s) from error
            if tell_at is not None and time.monotonic() >= tell_at:
                session.output.note(f"{error.message}; trying again, for {try_for_s:g} s in all")
                tell_at = None


def _given_up(last: CtlError, unknown: CtlError | None, tried_for_s: float) -> CtlError:
    """Return what is left to say when the time is over."""
    whole = unknown or last
    told = whole.message if whole is last else f"{whole.message}; then: {last.message}"
    if tried_for_s:
        told += f"; given up after {tried_for_s:g} s (--timeout)"
    hint = whole.hint or last.hint or _WHO_ANSWERS
    return CtlError(whole.code, told, hint=hint, rule_ids=whole.rule_ids, status=whole.status)


def _show_write(session: Session, key: str, verb: str, reply: WriteReply) -> None:
    from raftctl.output.text import printable

    data = {"key": key, "revision": reply.revision, "log_id": reply.log_id, "changed": True, "observed": True}
    session.output.show("kv-write", data, [f"{verb}: {printable(key)} (revision {reply.revision})"], names=[key])


def _check_consistency(word: str) -> None:
    if word not in {"linearizable", "lease", "stale"}:
        raise usage(f"--consistency {word} is none of linearizable, lease, stale")


def _text(value: bytes) -> str | None:
    """Return the value as text if it is text."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _base64(value: bytes) -> str:
    import base64

    return base64.b64encode(value).decode()
