"""Sending one HTTP request and getting one reply, and what it means when there is none.

A request that certainly never arrived is told apart from one whose reply was lost: after the second the effect may have come
all the same. Questions without TLS go over a bare socket, which needs no client to be loaded; all else over httpx.
Source: contract section 2; field notes B 19, 20 (an unknown outcome is an outcome of its own).
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from raftctl import plain_http
from raftctl.errors import CtlError
from raftctl.http_values import NO_TLS_FILES, REPLY_BYTES_MAX, Reply, Tls
from raftctl.output.text import printable
from raftctl.plain_http import NoReplyError, NotSentError

if TYPE_CHECKING:
    from raftctl.full_http import FullHttp

_OURS: Final = {"user-agent": "raftctl", "accept": "application/json"}


class Http:
    """`read_only` is what `--dry-run` relies on: anything but a GET is a bug and never leaves.

    `look_timeout_s`: how long somebody may be silent who is one of several and merely looked at; None: as long as anybody.
    `has_more_patience`: a request is given longer than that.
    """

    def __init__(
        self,
        *,
        request_timeout_s: float,
        look_timeout_s: float | None = None,
        token: str | None = None,
        tls: Tls = NO_TLS_FILES,
        read_only: bool = False,
        verbose: bool = False,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._request_timeout_s = request_timeout_s
        self.look_timeout_s = min(look_timeout_s or request_timeout_s, request_timeout_s)
        self.has_more_patience = self.look_timeout_s < request_timeout_s
        self._token = token
        self._tls = tls
        self._read_only = read_only
        self._verbose = verbose
        self._on_change = on_change

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
        """Return the reply, whatever its status.

        Args:
            wait_s: how long the other side may take on purpose, on top of the request timeout.
            within_s: instead of the request timeout.
        Raises: CtlError: `unreachable` (it never arrived, or it was a GET), `reply_lost` (it may have been carried out).
        """
        if self._read_only and method != "GET":
            raise CtlError("bug", f"a dry run was about to send {method} {url}; nothing was sent")
        if method != "GET":
            self._on_change()
        all_headers = self._headers(headers, with_token=with_token)
        timeout_s = within_s or self._request_timeout_s
        begun = time.monotonic()
        with _told_of(method, url):
            if method == "GET" and _is_plain(url):
                reply = self._ask(url, all_headers, timeout_s, timeout_s + wait_s)
            else:
                reply = self._full.exchange(
                    method,
                    url,
                    body,
                    all_headers,
                    connect_timeout_s=timeout_s,
                    timeout_s=timeout_s + wait_s,
                )
        if self._verbose:
            took_ms = (time.monotonic() - begun) * 1000
            sys.stderr.write(f"{method} {url} -> {reply.status} in {took_ms:.0f} ms\n")
        return reply

    def _headers(self, headers: Mapping[str, str] | None, *, with_token: bool) -> dict[str, str]:
        all_headers = dict(headers or {})
        if self._token is not None and with_token:
            all_headers["authorization"] = f"Bearer {self._token}"
        return all_headers

    @staticmethod
    def _ask(url: str, headers: Mapping[str, str], connect_timeout_s: float, timeout_s: float) -> Reply:
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
        with _told_of("GET", url):
            if not _is_plain(url):
                yield from self._full.pieces(url, all_headers, connect_timeout_s=self._request_timeout_s, silent_s=silent_s)
                return
            answer = plain_http.ask(url, all_headers, connect_timeout_s=self._request_timeout_s, timeout_s=silent_s)
            try:
                if answer.status != 200:
                    raise NoReplyError(f"the answer is status {answer.status}")
                yield from answer.body()
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
def _told_of(method: str, url: str) -> Iterator[None]:
    """Turn what went wrong on the way into what it means to the caller."""
    try:
        yield
    except NotSentError as error:
        raise CtlError("unreachable", f"{url}: {printable(str(error))}", hint=_connect_hint(error)) from error
    except NoReplyError as error:
        why = printable(str(error))
        if method == "GET":
            raise CtlError("unreachable", f"{url}: {why}") from error
        message = f"{method} {url} was sent, but no reply came: {why}"
        raise CtlError("reply_lost", message, hint="it may have been carried out; look with: raftctl status") from error


def _connect_hint(error: Exception) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "name the authority that signed the cluster's certificates: --cacert FILE"
    return "is the node running, and is this its management address?"
