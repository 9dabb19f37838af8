"""What this run was told: a flag weighs more than RAFTCTL_* in the environment, that more than the context, that more than
the default.

Nothing is read from the configuration file before something needs it, so that `version` and `context add` work with a
broken one. A token comes from a file or the environment, never from a flag: every user of a machine sees arguments.
Source: contract section 5; field notes B 8 (environment and flags must layer), C.
"""

from __future__ import annotations

import enum
import functools
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeVar

from raftctl.config_place import config_path
from raftctl.durations import parse_duration
from raftctl.errors import CtlError, usage

if TYPE_CHECKING:
    from pathlib import Path

    from raftctl.config_file import ConfigFile, ContextEntry, NodeEntry

T = TypeVar("T")

REQUEST_TIMEOUT_S: Final = 5.0
LOOK_TIMEOUT_S: Final = 1.0
"""For one of several nodes that are merely looked at: some hundred times what one on another continent takes."""


ENDPOINT_HINT: Final = (
    "an endpoint is a node's management URL, as http://127.0.0.1:9101 (HOST alone means port 80); "
    "a context is named with -c NAME"
)


class OutputFormat(enum.StrEnum):
    """How data is written to stdout."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    JSONL = "jsonl"
    NAME = "name"


class ColorChoice(enum.StrEnum):
    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class Flags(NamedTuple):
    """The options every command has, as they were typed; None or empty: not given."""

    context: str | None = None
    endpoint: Sequence[str] = ()
    output: OutputFormat | None = None
    request_timeout: str | None = None
    timeout: str | None = None
    yes: bool = False
    confirm: str | None = None
    no_input: bool = False
    dry_run: bool = False
    override: Sequence[str] = ()
    reason: str | None = None
    token_file: Path | None = None
    cacert: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    color: ColorChoice | None = None
    quiet: bool = False
    verbose: bool = False

    def over(self, lower: Flags) -> Flags:
        """Return these flags, and where one was not given, that of `lower` (the same option typed before the command)."""
        return lower.but(**{name: value for name, value in self._asdict().items() if value not in (None, False, (), [])})

    def but(self, **changes: Any) -> Self:
        """Return these flags, some of them changed."""
        return self._replace(**changes)


class Settings:
    """Everything resolved, each when it is first asked for. Raises: CtlError: config, usage."""

    def __init__(self, flags: Flags) -> None:
        self.flags = flags

    @functools.cached_property
    def context_name(self) -> str | None:
        """None: endpoints were named, or there is no current context. An endpoint on the command line stands alone: a
        context's token is not for strangers."""
        named = self.flags.context
        if named is None and not self.flags.endpoint:
            named = os.environ.get("RAFTCTL_CONTEXT")
        if named is not None:
            return named
        if self.flags.endpoint or _env("ENDPOINT"):
            return None
        return _config().current_context if config_path().exists() else None

    @functools.cached_property
    def context(self) -> ContextEntry | None:
        name = self.context_name
        if name is None:
            return None
        config = _config()
        if name not in config.contexts:
            from raftctl.config_file import no_such_context

            raise no_such_context(name, config)
        return config.contexts[name]

    @functools.cached_property
    def endpoints(self) -> tuple[str, ...]:
        from_env = [] if self.flags.context else re.split(r"[,\s]+", (_env("ENDPOINT") or "").strip())
        chosen = (
            self.flags.endpoint or [item for item in from_env if item] or (self.context.endpoints if self.context else ())
        )
        if not chosen:
            raise CtlError(
                "config",
                "no cluster is named: there is no current context and no endpoint",
                hint="raftctl dev up starts one to try; raftctl context add NAME --endpoint URL names yours",
            )
        return tuple(_endpoint(url) for url in chosen)

    @functools.cached_property
    def output(self) -> OutputFormat:
        chosen = self.flags.output or _env("OUTPUT") or self._context_output()
        try:
            return OutputFormat(chosen or OutputFormat.TABLE)
        except ValueError:
            raise usage(f"output {chosen!r} is none of {', '.join(OutputFormat)}") from None

    def _context_output(self) -> str | None:
        """Return the context's format. A file that has no such word is not parsed for it: that takes longer than most commands."""
        try:
            if "output" not in config_path().read_text("utf-8"):
                return None
        except (OSError, UnicodeDecodeError):
            return None
        return self.context_or_none.output if self.context_or_none else None

    @functools.cached_property
    def context_or_none(self) -> ContextEntry | None:
        """The context, if it can be had: how an error is printed must not hang on what the error is about."""
        try:
            return self.context
        except CtlError:
            return None

    @functools.cached_property
    def request_timeout_s(self) -> float:
        return self._request_timeout(REQUEST_TIMEOUT_S)

    @functools.cached_property
    def look_timeout_s(self) -> float:
        """How long a node may be silent that is looked at beside others: shorter, unless a request timeout was named."""
        return self._request_timeout(LOOK_TIMEOUT_S)

    def _request_timeout(self, default_s: float) -> float:
        entry = self.context.request_timeout if self.context else None
        return self._duration("--request-timeout", self.flags.request_timeout, "REQUEST_TIMEOUT", entry, default_s)

    def timeout_s(self, default_s: float) -> float:
        """How long it may take, whatever it is."""
        entry = self.context.timeout if self.context else None
        return self._duration("--timeout", self.flags.timeout, "TIMEOUT", entry, default_s, may_be_zero=True)

    def check_times(self) -> None:
        """Check the times on the command line, whether the command needs them or not. Raises: CtlError: usage."""
        if self.flags.request_timeout is not None:
            parse_duration(self.flags.request_timeout, "--request-timeout")
        if self.flags.timeout is not None:
            parse_duration(self.flags.timeout, "--timeout", may_be_zero=True)  # 0: everything once, wait for nothing

    def _duration(
        self, option: str, flag: str | None, variable: str, entry: str | None, default_s: float, *, may_be_zero: bool = False
    ) -> float:
        text = flag if flag is not None else _env(variable) or entry
        return default_s if text is None else parse_duration(text, option, may_be_zero=may_be_zero)

    @property
    def token_file(self) -> Path | None:
        return self._path("token_file")

    @functools.cached_property
    def token(self) -> str | None:
        """The bearer token, without what an editor put behind it."""
        from_env = os.environ.get("RAFTCTL_TOKEN")
        path = self.token_file
        if self.flags.token_file is None and from_env:
            return from_env.strip()
        if path is None:
            return None
        try:
            token = path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error if isinstance(error, UnicodeDecodeError) else error.strerror
            raise CtlError("config", f"the token file {path} cannot be read: {reason}") from error
        if not token.isascii() or not token.isprintable() or not token:
            raise CtlError("config", f"the token file {path} does not hold one token of printable ASCII characters")
        return token

    @property
    def cacert(self) -> Path | None:
        return self._path("cacert")

    @property
    def cert(self) -> Path | None:
        return self._path("cert")

    @property
    def key(self) -> Path | None:
        return self._path("key")

    def _path(self, name: str) -> Path | None:
        given: Path | None = getattr(self.flags, name)
        from_env = _env(name.upper())
        if given is not None or from_env:
            from pathlib import Path

            return given or Path(from_env or "")
        entry: str | None = getattr(self.context, name) if self.context else None
        return config_path().parent / entry if entry else None

    @property
    def color(self) -> ColorChoice:
        chosen = self.flags.color or _env("COLOR") or ColorChoice.AUTO
        try:
            return ColorChoice(chosen)
        except ValueError:
            raise usage(f"color {chosen!r} is none of {', '.join(ColorChoice)}") from None

    @property
    def may_ask(self) -> bool:
        return not self.flags.no_input and not _env("NO_INPUT")

    def node(self, node_id: int) -> NodeEntry:
        """How runbooks treat this node."""
        from raftctl.config_file import NodeEntry

        return self.context.nodes.get(node_id, NodeEntry()) if self.context else NodeEntry()


def _config() -> ConfigFile:
    """Return the configuration file, read only where something is in it."""
    from raftctl.config_file import read_config

    return read_config()


def _env(name: str) -> str | None:
    return os.environ.get(f"RAFTCTL_{name}") or None


def _endpoint(url: str) -> str:
    """Return `url` with its scheme. Raises: CtlError: usage, it is none."""
    from raftctl.http_values import host_and_port

    whole = url if "://" in url else f"http://{url}"
    if re.fullmatch(r"https?://[^/?#\s@]+/?", whole) is None or host_and_port(whole) is None:
        raise usage(f"{url!r} is not the URL of an endpoint", "write http://HOST:PORT")
    return whole.rstrip("/")
