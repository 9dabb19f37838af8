"""Sending one HTTP request and getting one reply, and what it means when there is none.

A request that certainly never arrived is told apart from one whose reply was lost: after the second the effect may have come
all the same. Questions without TLS go over a bare socket, which needs no client to be loaded; all else over httpx.
Source: contract section 2; field notes B 19, 20 (an unknown outcome is an outcome of its own).
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from raftctl import plain_http
from raftctl.changes import Changes
from raftctl.deadline import Deadline
from raftctl.errors import CtlError
from raftctl.http_values import NO_TLS_FILES, REPLY_BYTES_MAX, Reply, Tls
from raftctl.output.text import printable
from raftctl.plain_http import NO_HOST, NoReplyError, NotSentError
from raftctl.settings import ENDPOINT_HINT

if TYPE_CHECKING:
    from raftctl.full_http import FullHttp

_OURS: Final = {"user-agent": "raftctl", "accept": "application/json"}
_ENOUGH_S: Final = 0.1
"""Who is silent for less says nothing by that: to connect and to ask are two round trips, perhaps on a busy machine."""


class NoTimeError(CtlError):
    """A question was not asked, or there was no time to hear the answer: nothing is known of whoever it was for."""

    def __init__(self, message: str, option: str) -> None:
        super().__init__("unreachable", message, hint=f"allow more: {option}")


class Http:
    """`read_only` is what `--dry-run` relies on: anything but a GET is a bug and never leaves.

    `look_timeout_s`: how long somebody may be silent who is one of several and merely looked at; None: as long as anybody.
    `has_more_patience`: a request is given longer than that. `deadline`: no request lasts longer, nor begins after it.
    """

    def __init__(
        self,
        *,
        request_timeout_s: float,
        look_timeout_s: float | None = None,
        deadline: Deadline | None = None,
        token: str | None = None,
        tls: Tls = NO_TLS_FILES,
        read_only: bool = False,
        verbose: bool = False,
        changes: Changes | None = None,
    ) -> None:
        self._request_timeout_s = request_timeout_s
        self._deadline = deadline or Deadline(0.0)
        self._look_timeout_s = min(look_timeout_s or request_timeout_s, request_timeout_s)
        self.has_more_patience = self._look_timeout_s < request_timeout_s
        self._token = token
        self._tls = tls
        self._read_only = read_only
        self._verbose = verbose
        self._changes = changes or Changes()

    @property
    def look_timeout_s(self) -> float:
        """At most half of what is left: it is looked in order to do something afterwards."""
        return min(self._look_timeout_s, self._deadline.left_s / 2)

    @property
    def patience_s(self) -> float:
        """For a look at somebody who matters: as long as any request may take, and as above."""
        return min(self._request_timeout_s, self._deadline.left_s / 2)

    @property
    def has_time(self) -> bool:
        """Whether there is any left to ask once more."""
        return not self._deadline.is_over

    def send(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        wait_s: float = 0.0,
        within_s: float | None = None,
        with_token: bool = True,
    ) -> Reply:
        """Return the reply, whatever its status. However slowly it comes, the bound holds for all of it, its body included.

        Args:
            wait_s: how long the other side may take on purpose, on top of the request timeout.
            within_s: instead of the request timeout.
        Raises: CtlError: `unreachable` (it never arrived, or it was a GET), `reply_lost` (it may have been carried out),
            `out_of_time` (the deadline has passed, and it was not sent); NoTimeError: as `unreachable`, of a GET.
        """
        if self._read_only and method != "GET":
            raise CtlError("bug", f"a dry run was about to send {method} {url}; nothing was sent")
        left_s = self._deadline.left_s
        if left_s <= 0.0:
            raise self._out_of_time(method, url)
        all_headers = self._headers(headers, with_token=with_token)
        timeout_s = self._request_timeout_s if within_s is None else within_s
        connect_timeout_s, timeout_s = min(timeout_s, left_s), min(timeout_s + wait_s, left_s)
        cut_by = self._deadline.option if timeout_s < _ENOUGH_S and left_s < self._request_timeout_s else None
        under_way = self._changes.under_way(method, url)
        with under_way as answered, _told_of(method, url, cut_by), self._shown(method, url) as seen:
            if method == "GET" and _is_plain(url):
                reply = self._ask(url, all_headers, connect_timeout_s, timeout_s)
            else:
                reply = self._full.exchange(
                    method, url, body, all_headers, connect_timeout_s=connect_timeout_s, timeout_s=timeout_s
                )
            seen.append(str(reply.status))
            answered(reply.status)
        return reply

    def _out_of_time(self, method: str, url: str) -> CtlError:
        """Nothing was sent; a question that is not asked is as good as one that is not answered."""
        option = self._deadline.option
        over = f"the {self._deadline.seconds:g} s of {option} are over"
        if method == "GET":
            return NoTimeError(f"{url}: not asked: {over}", option)
        return CtlError("out_of_time", f"{method} {url} was not sent: {over}", hint=f"allow more: {option}")

    @contextmanager
    def _shown(self, method: str, url: str) -> Iterator[list[str]]:
        """Show the request to whoever wants to see all of them, however it ends. The list gets what came of it."""
        begun = time.monotonic()
        seen: list[str] = []
        try:
            yield seen
        except (NotSentError, NoReplyError) as error:
            seen.append(f"{printable(str(error))},")
            raise
        finally:
            if self._verbose:
                took_ms = (time.monotonic() - begun) * 1000
                what = seen[0] if seen else "interrupted,"
                sys.stderr.write(f"{method} {url} -> {what} {'after' if what.endswith(',') else 'in'} {took_ms:.0f} ms\n")

    def _headers(self, headers: Mapping[str, str] | None, *, with_token: bool) -> dict[str, str]:
        all_headers = dict(headers or {})
        if self._token is not None and with_token:
            all_headers["authorization"] = f"Bearer {self._token}"
        return all_headers

    def _ask(self, url: str, headers: Mapping[str, str], connect_timeout_s: float, timeout_s: float) -> Reply:
        answer = plain_http.ask(url, {**_OURS, **headers}, connect_timeout_s=connect_timeout_s, timeout_s=timeout_s)
        try:
            whole = bytearray()
            for piece in answer.body():
                whole += piece
                if len(whole) > REPLY_BYTES_MAX:
                    raise NoReplyError(f"the reply is longer than {REPLY_BYTES_MAX} bytes")
        finally:
            answer.close()
        return Reply(answer.status, answer.headers, bytes(whole))

    def pieces(self, url: str, *, headers: Mapping[str, str], silent_s: float) -> Iterator[bytes]:
        """Return a reply's body as it arrives, for streams that do not end by themselves. May be used on several threads.

        Args:
            silent_s: how long nothing may arrive.
        Raises: CtlError: `unreachable`, or whatever the other side says instead of 200.
        """
        all_headers = {**_OURS, **self._headers(headers, with_token=True)}
        with _told_of("GET", url), self._shown("GET", url) as seen:
            if not _is_plain(url):
                yield from self._full.pieces(url, all_headers, connect_timeout_s=self._request_timeout_s, silent_s=silent_s)
                seen.append("the stream ended,")
                return
            answer = plain_http.ask(
                url, all_headers, connect_timeout_s=self._request_timeout_s, timeout_s=silent_s, is_stream=True
            )
            try:
                if answer.status != 200:
                    raise NoReplyError(f"the answer is status {answer.status}")
                yield from answer.body()
                seen.append("the stream ended,")
            finally:
                answer.close()

    @functools.cached_property
    def _full(self) -> FullHttp:
        # httpx loads its own command line, with Rich and Pygments, unless that cannot be imported.
        sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # None is what says so
        from raftctl.full_http import FullHttp

        return FullHttp(self._tls)

    def close(self) -> None:
        if "_full" in self.__dict__:
            self._full.close()


def _is_plain(url: str) -> bool:
    return url[:7].lower() == "http://"


@contextmanager
def _told_of(method: str, url: str, cut_by: str | None = None) -> Iterator[None]:
    """Turn what went wrong on the way into what it means to the caller.

    Args:
        cut_by: the option that left so little time that no answer means nothing.
    """
    try:
        yield
    except NotSentError as error:
        raise CtlError("unreachable", f"{url}: {printable(str(error))}", hint=_connect_hint(error)) from error
    except NoReplyError as error:
        why = printable(str(error))
        if method == "GET" and cut_by is not None:
            raise NoTimeError(f"{url}: {why}, and there was no time for more", cut_by) from error
        if method == "GET":
            raise CtlError("unreachable", f"{url}: {why}") from error
        message = f"{method} {url} was sent, but no reply came: {why}"
        raise CtlError("reply_lost", message, hint="it may have been carried out; look with: raftctl status") from error


def nobody(told: Sequence[str], look_with: str) -> CtlError:
    """Return that all were asked and none answered. `told`: what each one's silence was."""
    hint = ENDPOINT_HINT if any(NO_HOST in each for each in told) else f"are the nodes running? see: {look_with}"
    return CtlError("unreachable", f"no node answers: {'; '.join(told)}", hint=hint)


def _connect_hint(error: Exception) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "name the authority that signed the cluster's certificates: --cacert FILE"
    if str(error).startswith(NO_HOST):
        return ENDPOINT_HINT
    return "is the node running, and is this its management address?"
