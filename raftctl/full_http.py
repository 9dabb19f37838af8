"""Requests that change something, and everything over TLS: the only module that knows httpx.

A request's time is counted below it, by `bounded_network`; a stream has none, and each silence of it is bounded.
Redirects are not followed and proxies of the environment not used, so a token goes where it was meant to go and nowhere else.
"""

from __future__ import annotations

import functools
import socket
import ssl
from collections.abc import Iterator, Mapping
from typing import Final

import httpcore
import httpx

from raftctl.bounded_network import BoundedNetwork, Limit
from raftctl.errors import CtlError
from raftctl.http_values import NO_TLS_FILES, REPLY_BYTES_MAX, Reply, Tls
from raftctl.plain_http import NoReplyError, NotSentError, no_answer, no_connection, no_host

_NEVER_ARRIVED: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)

_CONNECTIONS_MAX: Final = 64
_KEPT_S: Final = 5.0
"""An unused connection is kept for so long, as httpx does."""


class FullHttp:
    """Keeps connections."""

    def __init__(self, tls: Tls) -> None:
        self._tls_files = tls
        self._limit = Limit()

    @functools.cached_property
    def _over_tls(self) -> httpx.Client:
        return _client(_ssl_context(self._tls_files), self._limit)

    @functools.cached_property
    def _plain(self) -> httpx.Client:
        """Reading the authorities that a system trusts takes longer than a request; this one trusts none and needs none."""
        return _client(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), self._limit)

    def _client_of(self, url: str) -> httpx.Client:
        return self._plain if url[:7].lower() == "http://" else self._over_tls

    def exchange(
        self,
        method: str,
        url: str,
        body: bytes | None,
        headers: Mapping[str, str],
        *,
        connect_timeout_s: float,
        timeout_s: float,
    ) -> Reply:
        """Return the whole reply. `timeout_s`: from now until its last byte. Raises: NotSentError, NoReplyError."""
        timeout = httpx.Timeout(timeout_s, connect=connect_timeout_s)
        try:
            client = self._client_of(url)
            request = client.build_request(method, url, content=body, headers=headers, timeout=timeout)
            with self._limit.of(timeout_s):
                return _whole(client, request)
        except _NEVER_ARRIVED as error:
            raise NotSentError(_why(error, timeout)) from error
        except httpx.HTTPError as error:
            raise NoReplyError(_why(error, timeout)) from error

    def pieces(self, url: str, headers: Mapping[str, str], *, connect_timeout_s: float, silent_s: float) -> Iterator[bytes]:
        """Return the body as it arrives. Raises: NotSentError, NoReplyError."""
        timeout = httpx.Timeout(silent_s, connect=connect_timeout_s)
        try:
            with self._client_of(url).stream("GET", url, headers=headers, timeout=timeout) as response:
                if response.status_code != 200:
                    raise NoReplyError(f"the answer is status {response.status_code}")
                yield from response.iter_bytes()
        except _NEVER_ARRIVED as error:
            raise NotSentError(_why(error, timeout)) from error
        except httpx.HTTPError as error:
            raise NoReplyError(_why(error, timeout)) from error

    def close(self) -> None:
        for name in ("_plain", "_over_tls"):
            if name in self.__dict__:
                self.__dict__[name].close()


def _client(context: ssl.SSLContext | bool, limit: Limit) -> httpx.Client:
    return httpx.Client(
        transport=_Transport(httpx.create_ssl_context(context, trust_env=False), limit),
        follow_redirects=False,
        trust_env=False,
        headers={"user-agent": "raftctl", "accept": "application/json"},
    )


class _Transport(httpx.HTTPTransport):
    """That of httpx over another network: httpcore takes one, and httpx has no word for it."""

    def __init__(self, context: ssl.SSLContext, limit: Limit) -> None:
        super().__init__(verify=context, trust_env=False)
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=_CONNECTIONS_MAX,
            keepalive_expiry=_KEPT_S,
            network_backend=BoundedNetwork(limit),
        )


def _whole(client: httpx.Client, request: httpx.Request) -> Reply:
    response = client.send(request, stream=True)
    try:
        parts = bytearray()
        for part in response.iter_bytes():
            parts += part
            if len(parts) > REPLY_BYTES_MAX:
                raise httpx.ReadError(f"the reply is longer than {REPLY_BYTES_MAX} bytes")
    finally:
        response.close()
    return Reply(response.status_code, dict(response.headers), bytes(parts))


def _why(error: Exception, timeout: httpx.Timeout) -> str:
    if isinstance(error, httpx.ConnectTimeout):
        return no_connection(timeout.connect or 0.0)
    if isinstance(error, httpx.TimeoutException):
        return no_answer(timeout.read or 0.0)
    if (unknown := _unknown_host(error)) is not None and isinstance(error, httpx.RequestError):
        return no_host(error.request.url.host, unknown)
    text = str(error) or type(error).__name__
    return "connection refused" if "Connection refused" in text else text


def _unknown_host(error: BaseException) -> socket.gaierror | None:
    """Return what the resolver said, if that is the cause."""
    of_httpcore = error.__cause__
    of_resolver = (of_httpcore.__cause__ or of_httpcore.__context__) if of_httpcore is not None else None
    return of_resolver if isinstance(of_resolver, socket.gaierror) else None


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
