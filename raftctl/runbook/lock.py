"""One runbook at a time for a cluster, from whichever machine: a key in the cluster itself.

The key's value says who holds it, since when and until when. It is taken and renewed by compare-and-set on its revision, so of
two who try at once one fails, and whoever lost it finds that out at the next renewal. It ends by itself when its holder dies.
Rules:
1. Expiry is read off wall clocks, so it counts only `CLOCK_SKEW_S` later. Clocks that differ by more make a lock end early,
   never late, and the former holder notices before its next step.
2. Without a quorum a lock can be neither renewed nor taken, by anybody: a run goes on meanwhile, and looks again.
3. It keeps operators out of each other's way. What keeps data safe are the engine's own rules, which no lock replaces.
Source: field notes A.3.15, B 25; Gray and Cheriton 1989 (leases).
"""

from __future__ import annotations

import datetime as dt
import getpass
import os
import secrets
import socket
import time
from collections.abc import Callable
from typing import Final

import msgspec

from raftctl import interrupts
from raftctl.client import ClusterClient
from raftctl.errors import CtlError
from raftctl.guards import LockHolder
from raftctl.output.text import human_seconds, printable
from raftctl.runbook.journal import RESUMABLE, find_run, now_text

KEY: Final = b"raftctl/lock"
TTL_S: Final = 120.0
"""Longer than any single wait of a step, which renews it between two looks; short enough to wait for after a crash."""
CLOCK_SKEW_S: Final = 15.0
"""Operators' machines keep time by NTP; one that is off by more is found out by the compare-and-set."""
_RENEW_AFTER_S: Final = TTL_S / 4
_NOBODY_CAN: Final = frozenset(
    {
        *("no_leader", "no_quorum", "not_leader", "leadership_lost", "transfer_in_progress"),
        *("unreachable", "overloaded", "raft_stopped", "recovering", "blank", "shutting_down", "timed_out"),
    }
)
"""Nothing was written, and nobody else could have, as far as anybody can be asked."""
_TRIES: Final = 5
_RELEASES: Final = 3


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """What the key says. `token` is drawn anew each time the lock is taken."""

    run: str
    command: str
    operator: str
    host: str
    pid: int
    since: str
    expires_at: str
    token: str

    def left_s(self) -> float:
        """How long it still counts; negative: it has expired. An unreadable time counts as expired."""
        try:
            until = dt.datetime.fromisoformat(self.expires_at)
            return (until - dt.datetime.now(dt.UTC)).total_seconds() + CLOCK_SKEW_S
        except (ValueError, TypeError):
            return -1.0

    def __str__(self) -> str:
        left = self.left_s()
        ends = f"ends at {self.expires_at} unless renewed" if left > 0 else f"expired at {self.expires_at}"
        text = f"run {self.run} ({self.command}) by {self.operator} on {self.host}, since {self.since}, {ends}"
        return printable(text)


class Held(msgspec.Struct, frozen=True):
    holder: Holder
    revision: int


def operator() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def operator_and_host() -> str:
    return f"{operator()}@{socket.gethostname()}"


def look(client: ClusterClient) -> Held | None:
    """Return who holds the lock, expired or not. A dry run may ask.

    Raises: CtlError: the cluster cannot say.
    """
    try:
        value = client.kv_get(KEY, consistency="linearizable")
    except CtlError as error:
        if error.code == "key_not_found":
            return None
        raise
    try:
        with interrupts.held_back():
            return Held(msgspec.json.decode(value.value, type=Holder), value.revision)
    except msgspec.MsgspecError:
        unknown = Holder(run="?", command="?", operator="?", host="?", pid=0, since="?", expires_at="?", token="")
        return Held(unknown, value.revision)


def holder_in_the_way(client: ClusterClient) -> LockHolder | None:
    """Return who is in the way of a new run, None if nobody is or the cluster cannot say (other rules tell of that)."""
    try:
        held = look(client)
    except CtlError:
        return None
    if held is None or held.holder.left_s() <= 0 or _is_over(held.holder):
        return None
    return LockHolder(printable(held.holder.run), held.holder.host == socket.gethostname(), str(held.holder))


def _is_over(holder: Holder) -> bool:
    """Whether its run is one of this machine's that has ended: there was no quorum then to give the lock back."""
    if holder.host != socket.gethostname():
        return False
    try:
        run = find_run(holder.run)
    except CtlError:
        return False
    return bool(run.records) and run.broken_at is None and run.outcome not in RESUMABLE


class ClusterLock:
    """The lock as one run holds it. Not for two threads at a time."""

    def __init__(self, client: ClusterClient, run_id: str, command: str) -> None:
        self._client = client
        self._run_id = run_id
        self._command = command
        self._since = now_text()
        self._token = secrets.token_hex(8)
        self._revision: int | None = None
        self._renewed_at = 0.0
        self._unclear: CtlError | None = None
        """Why it is not known whether the last attempt to write the key was carried out."""

    def take(self, *, force: bool = False, resuming: bool = False) -> None:
        """Hold the lock.

        Args:
            force: take it from whoever has it (`--override no-lock`); that run notices and stops.
            resuming: this run held it before: what its dead process on this machine left is taken over at once, and without
                a quorum the run goes on, because nobody else can take it either.
        Raises: CtlError: `locked`, naming holder, host, since when and until when; the cluster's own errors.
        """
        try:
            self._take(force=force, resuming=resuming)
        except CtlError as error:
            if not resuming or error.code not in _NOBODY_CAN:
                raise

    def _take(self, *, force: bool, resuming: bool) -> None:
        for _ in range(_TRIES):
            held = look(self._client)
            if held is not None and held.holder.token == self._token:
                self._revision = held.revision
                return
            if held is not None and not force and not self._may_replace(held.holder, resuming=resuming):
                raise self._locked(held.holder)
            if self._put(held.revision if held is not None else None):
                return
        if self._unclear is not None:
            message = f"{self._unclear.message}; so may have been the taking of the cluster's lock, which then ends within {TTL_S:g} s"
            raise CtlError(self._unclear.code, message, hint=self._unclear.hint, rule_ids=["no-lock"])
        raise CtlError("locked", "the cluster's lock changes hands too fast", hint="try again", rule_ids=["no-lock"])

    def _may_replace(self, holder: Holder, *, resuming: bool) -> bool:
        """The journal's own lock says that no other process of this machine is at this run."""
        return holder.left_s() <= 0 or (resuming and self._is_leftover(holder)) or _is_over(holder)

    def _locked(self, holder: Holder) -> CtlError:
        left = max(0.0, holder.left_s())
        hint = (
            f"wait for it (at most {human_seconds(left)} if its process is dead), or take the lock: --override no-lock; "
            f"a run whose process is dead goes on where it began: raftctl runs resume {printable(holder.run)}"
        )
        measured = msgspec.to_builtins(holder)
        return CtlError(
            "locked", f"the cluster is locked by {holder}", hint=hint, rule_ids=["no-lock"], measured={"no-lock": measured}
        )

    def _put(self, revision: int | None) -> bool:
        """Write the key if it is as it was; return whether it is ours now."""
        until = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=TTL_S)
        holder = Holder(
            run=self._run_id,
            command=self._command,
            operator=operator(),
            host=socket.gethostname(),
            pid=os.getpid(),
            since=self._since,
            expires_at=until.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            token=self._token,
        )
        begun = time.monotonic()
        value = msgspec.json.encode(holder)
        try:
            reply = self._client.kv_put(
                KEY, value, revision=revision, create=revision is None, request_id=secrets.token_hex(16)
            )
        except CtlError as error:
            if error.code == "precondition_failed" or error.outcome_unknown:
                self._unclear = error if error.outcome_unknown else None
                return False  # the next look shows whose it is
            raise
        self._revision, self._renewed_at = reply.revision, begun
        return True

    def keep(self) -> None:
        """Renew it if a good part of its time is over. Called before each step and between two looks of a wait.

        Raises: CtlError: `lock_lost`, naming who has it now.
        """
        if self._revision is not None and time.monotonic() - self._renewed_at < _RENEW_AFTER_S:
            return
        self.renew()

    def renew(self) -> None:
        """Make sure that it is ours, now. Raises: CtlError: `lock_lost`."""
        try:
            if self._revision is not None and self._put(self._revision):
                return
            held = look(self._client)
            if held is not None and held.holder.token == self._token:
                self._revision = held.revision
                self._renewed_at = time.monotonic() - _RENEW_AFTER_S / 2  # written at an unknown moment: look again soon
                return
            is_free = held is None or self._may_replace(held.holder, resuming=True)
            if self._revision is None and is_free and self._put(held.revision if held is not None else None):
                return  # there was no quorum when the run went on
        except CtlError as error:
            if error.code not in _NOBODY_CAN and not error.outcome_unknown:
                raise
            self._renewed_at = time.monotonic() - _RENEW_AFTER_S * 0.9  # not at every look, but again in a moment
            return
        who = f"held by {held.holder}" if held is not None else "held by nobody this run knows"
        hint = f"when that is over: raftctl runs resume {self._run_id}, or raftctl runs abort {self._run_id}"
        raise CtlError("lock_lost", f"this run lost the cluster's lock; it is {who}", hint=hint, rule_ids=["no-lock"])

    def release(self) -> None:
        """Give it back if it is still ours; what cannot be given back expires."""
        if self._revision is None:  # there was no quorum to take over what a dead process of this run left
            self.release_leftover()
        else:
            self._release(lambda holder: holder.token == self._token)

    def release_leftover(self) -> None:
        """Give back what a process of this run that is dead left on this machine; nothing if another one has the lock."""
        self._release(self._is_leftover)

    def _is_leftover(self, holder: Holder) -> bool:
        return holder.run == self._run_id and holder.host == socket.gethostname()

    def _release(self, is_ours: Callable[[Holder], bool]) -> None:
        """Delete the key if it is ours. A lost reply is looked up: somebody waits for this lock, perhaps the next command."""
        for _ in range(_RELEASES):
            try:
                held = look(self._client)
                if held is not None and is_ours(held.holder):
                    self._client.kv_delete(KEY, revision=held.revision, request_id=secrets.token_hex(16))
                break
            except CtlError as error:
                if not error.outcome_unknown:
                    break
        self._revision = None
