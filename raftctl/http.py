"""Sending one HTTP request and getting one whole reply: the only module that knows httpx.

Redirects are not followed and proxies of the environment not used, so a token goes where it was meant to go and nowhere
else. A request that certainly never arrived is told apart from one whose reply was lost: after the second the effect may
have come all the same.
Source: contract section 2; field notes B 19, 20 (an unknown outcome is an outcome of its own).
"""

from __future__ import annotations

import ssl
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import httpx
import msgspec

from raftctl.errors import CtlError
from raftctl.output.text import printable

REPLY_BYTES_MAX: Final = 64 * 1024 * 1024
"""A page of a key-value list has at most 4 MiB; whoever sends more than this is not one of ours."""

_NEVER_ARRIVED: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


class Tls(msgspec.Struct, frozen=True):
    cacert: Path | None = None
    cert: Path | None = None
    key: Path | None = None


NO_TLS_FILES: Final = Tls()


class Reply(msgspec.Struct, frozen=True):
    """`headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Http:
    """Keeps connections. `read_only` is what `--dry-run` relies on: anything but a GET is a bug and never leaves."""

    def __init__(
        self,
        *,
        request_timeout_s: float,
        token: str | None = None,
        tls: Tls = NO_TLS_FILES,
        read_only: bool = False,
        verbose: bool = False,
    ) -> None:
        self._request_timeout_s = request_timeout_s
        self._token = token
        self._read_only = read_only
        self._verbose = verbose
        self._client = httpx.Client(
            verify=_ssl_context(tls),
            follow_redirects=False,
            trust_env=False,
            limits=httpx.Limits(max_connections=64),
            headers={"user-agent": "raftctl", "accept": "application/json"},
        )

    def send(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        wait_s: float = 0.0,
        with_token: bool = True,
    ) -> Reply:
        """Return the reply, whatever its status.

        Args:
            wait_s: how long the other side may take on purpose, on top of the request timeout.
        Raises: CtlError: `unreachable` (it never arrived, or it was a GET), `reply_lost` (it may have been carried out).
        """
        if self._read_only and method != "GET":
            raise CtlError("bug", f"a dry run was about to send {method} {url}; nothing was sent")
        all_headers = dict(headers or {})
        if self._token is not None and with_token:
            all_headers["authorization"] = f"Bearer {self._token}"
        begun = time.monotonic()
        try:
            reply = self._exchange(method, url, body, all_headers, self._request_timeout_s + wait_s)
        except (*_NEVER_ARRIVED, httpx.InvalidURL) as error:
            raise CtlError("unreachable", f"{url}: {_why(error)}", hint=_connect_hint(error)) from error
        except httpx.HTTPError as error:
            if method == "GET":
                raise CtlError("unreachable", f"{url}: {_why(error)}") from error
            message = f"{method} {url} was sent, but no reply came: {_why(error)}"
            raise CtlError("reply_lost", message, hint="it may have been carried out; look with: raftctl status") from error
        if self._verbose:
            took_ms = (time.monotonic() - begun) * 1000
            sys.stderr.write(f"{method} {url} -> {reply.status} in {took_ms:.0f} ms\n")
        return reply

    def _exchange(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], timeout_s: float) -> Reply:
        timeout = httpx.Timeout(timeout_s, connect=self._request_timeout_s)
        request = self._client.build_request(method, url, content=body, headers=headers, timeout=timeout)
        response = self._client.send(request, stream=True)
        try:
            parts = bytearray()
            for part in response.iter_bytes():
                parts += part
                if len(parts) > REPLY_BYTES_MAX:
                    raise httpx.ReadError(f"the reply is longer than {REPLY_BYTES_MAX} bytes")
        finally:
            response.close()
        return Reply(response.status_code, dict(response.headers), bytes(parts))

    def close(self) -> None:
        self._client.close()


def host_and_port(url: str) -> tuple[str, int] | None:
    """Return where `url` leads, None if it is not an http(s) URL."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return None
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        return None
    return parsed.host.lower(), parsed.port or (443 if parsed.scheme == "https" else 80)


def _why(error: Exception) -> str:
    if isinstance(error, httpx.ConnectTimeout):
        return "no connection in time"
    if isinstance(error, httpx.TimeoutException):
        return "no reply in time"
    text = printable(str(error)) or type(error).__name__
    return "connection refused" if "Connection refused" in text else text


def _connect_hint(error: Exception) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "name the authority that signed the cluster's certificates: --cacert FILE"
    return "is the node running, and is this its management address?"


def _ssl_context(tls: Tls) -> ssl.SSLContext | bool:
    if tls == NO_TLS_FILES:
        return True
    try:
        context = ssl.create_default_context(cafile=tls.cacert)
        if tls.cert is not None:
            context.load_cert_chain(tls.cert, tls.key)
    except OSError as error:
        raise CtlError(
            "config", f"the certificates cannot be used: {error}", hint="see --cacert, --cert and --key"
        ) from error
    return context
