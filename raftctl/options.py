"""The options every command has, in one place, and how a function becomes a command that has them.

They may also stand before the command (`raftctl -c demo status`); behind it they weigh more.
Source: contract section 5.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from raftctl.completion import complete_contexts, complete_nodes, complete_runs
from raftctl.deadline import taken_by
from raftctl.errors import usage
from raftctl.run import Run
from raftctl.settings import ColorChoice, Flags, OutputFormat

GLOBAL_PANEL: Final = "Options of every command"

NodeOption = Annotated[
    int | None,
    typer.Option("--node", min=1, metavar="N", help="Id of the node; default: the leader.", autocompletion=complete_nodes),
]
NodeArgument = Annotated[int, typer.Argument(min=1, metavar="NODE", help="Id of the node.", autocompletion=complete_nodes)]
ToOption = Annotated[
    int, typer.Option("--to", min=1, metavar="N", help="Id of the other node.", autocompletion=complete_nodes)
]
ContextArgument = Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete_contexts)]
AllOption = Annotated[bool, typer.Option("--all", help="Every node that answers; exit 10 if a member does not.")]
KeyArgument = Annotated[str, typer.Argument(metavar="KEY")]
ConsistencyOption = Annotated[
    str, typer.Option("--consistency", metavar="linearizable|lease|stale", help="How fresh a read must be.")
]
DirOption = Annotated[
    Path | None,
    typer.Option(
        "--dir", metavar="DIR", help="Where it lives; or RAFTCTL_DEV_DIR; default: beside this program's journals."
    ),
]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Id of the run.", autocompletion=complete_runs)]
RunOrFileArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN|FILE", help="Id of the run, or a journal copied from another machine.", autocompletion=complete_runs
    ),
]
DECLARING: Final = {
    "typer": typer,
    "NodeOption": NodeOption,
    "NodeArgument": NodeArgument,
    "ToOption": ToOption,
    "ContextArgument": ContextArgument,
    "AllOption": AllOption,
    "KeyArgument": KeyArgument,
    "ConsistencyOption": ConsistencyOption,
    "DirOption": DirOption,
    "RunArgument": RunArgument,
    "RunOrFileArgument": RunOrFileArgument,
    "complete_contexts": complete_contexts,
    "complete_nodes": complete_nodes,
    "complete_runs": complete_runs,
}
"""Names that modules of commands use in declarations only. They import them for the type checker and not when they run,
so that a command does not load Typer (`door.py`)."""


def _common(
    context: Annotated[
        str | None, typer.Option("--context", "-c", metavar="NAME", help="Cluster to use.", autocompletion=complete_contexts)
    ] = None,
    endpoint: Annotated[
        list[str] | None, typer.Option("--endpoint", "-e", metavar="URL", help="Management URL of a node; repeatable.")
    ] = None,
    output: Annotated[
        OutputFormat | None, typer.Option("--output", "-o", metavar="FORMAT", help="table, wide, json, jsonl or name.")
    ] = None,
    request_timeout: Annotated[
        str | None,
        typer.Option("--request-timeout", metavar="TIME", help="For one request; default 5s, for a mere look 1s."),
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option("--timeout", metavar="TIME", help="How long a command may take; its own --help says the default."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Answer questions with yes.")] = False,
    confirm: Annotated[
        str | None, typer.Option("--confirm", metavar="NAME", help="The cluster's name, for what --yes is not enough for.")
    ] = None,
    no_input: Annotated[bool, typer.Option("--no-input", help="Never ask; fail instead.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only read; show the plan and every rule it was held against.")
    ] = False,
    override: Annotated[
        list[str] | None, typer.Option("--override", metavar="RULE", help="Go on although this rule fails; repeatable.")
    ] = None,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why; kept in the journal.")] = None,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", metavar="FILE", help="Bearer token; or RAFTCTL_TOKEN.")
    ] = None,
    cacert: Annotated[
        Path | None, typer.Option("--cacert", metavar="FILE", help="Authority that signed the nodes' certificates.")
    ] = None,
    cert: Annotated[Path | None, typer.Option("--cert", metavar="FILE", help="Certificate of this client.")] = None,
    tls_key: Annotated[Path | None, typer.Option("--key", metavar="FILE", help="Key of that certificate.")] = None,
    color: Annotated[
        ColorChoice | None, typer.Option("--color", metavar="WHEN", help="auto, always or never; NO_COLOR is obeyed.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes on stderr.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Every request on stderr.")] = False,
) -> Flags:
    return Flags(
        context=context,
        endpoint=endpoint or [],
        output=output,
        request_timeout=request_timeout,
        timeout=timeout,
        yes=yes,
        confirm=confirm,
        no_input=no_input,
        dry_run=dry_run,
        override=override or [],
        reason=reason,
        token_file=token_file,
        cacert=cacert,
        cert=cert,
        key=tls_key,
        color=color,
        quiet=quiet,
        verbose=verbose,
    )


def _in_global_panel(parameter: inspect.Parameter) -> inspect.Parameter:
    parameter.annotation.__metadata__[0].rich_help_panel = GLOBAL_PANEL
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)


_COMMON: Final = [_in_global_panel(parameter) for parameter in inspect.signature(_common, eval_str=True).parameters.values()]
TIMEOUT_NAME: Final = "timeout"
COMMON_NAMES: Final = frozenset(parameter.name for parameter in _COMMON)
_CONTEXT: Final = inspect.Parameter("typer_context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)


_VERSION: Final = inspect.Parameter(
    "version",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[bool, typer.Option("--version", help="Print the version of this program.")],
)


def flags_only(function: Callable[[typer.Context, Flags, bool], None]) -> Callable[..., None]:
    """Return the program's own callback, which has the common options and `--version`, and nothing else."""

    def callback(typer_context: typer.Context, *, version: bool, **options: Any) -> None:
        function(typer_context, _common(**options), version)

    return _with_signature(callback, [_CONTEXT, _VERSION, *_COMMON], function)


def with_session(function: Callable[..., None]) -> Callable[..., None]:
    """Return `function(session, …)` as a command with its own options and the common ones.

    As the callback of a group it does nothing but take the common options when a command of the group follows.
    """

    @functools.wraps(function)
    def command(typer_context: typer.Context, **options: Any) -> None:
        common = {name: options.pop(name) for name in COMMON_NAMES}
        run: Run = typer_context.find_root().obj
        run.begin(_common(**common))
        if typer_context.invoked_subcommand is None:
            run.call(function, options)
            return
        given = [name for name in options if str(typer_context.get_parameter_source(name)).endswith("COMMANDLINE")]
        if given:
            raise usage(
                f"--{given[0]} does not go with {typer_context.invoked_subcommand}",
                f"see: raftctl {typer_context.info_name} {typer_context.invoked_subcommand} --help",
            )

    command.__dict__["raftctl_function"] = function
    own = list(signature_of(function).parameters.values())[1:]
    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    return _with_signature(command, [_CONTEXT, *own, *_common_of(function)], function)


def _common_of(function: Callable[..., None]) -> list[inspect.Parameter]:
    """Return the common options, with what `--timeout` means to this command."""
    return [_told_of_its_time(one, function) if one.name == TIMEOUT_NAME else one for one in _COMMON]


def _told_of_its_time(parameter: inspect.Parameter, function: Callable[..., None]) -> inspect.Parameter:
    kind, option = parameter.annotation.__origin__, copy.copy(parameter.annotation.__metadata__[0])
    option.help = taken_by(function).help
    return parameter.replace(annotation=Annotated[kind, option])


def signature_of(function: Callable[..., None]) -> inspect.Signature:
    """Return the signature of a command's function with what its annotations mean."""
    return inspect.signature(function, locals=DECLARING, eval_str=True)


def _with_signature(
    wrapper: Callable[..., None], parameters: list[inspect.Parameter], function: Callable[..., None]
) -> Callable[..., None]:
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    wrapper.__doc__ = function.__doc__
    if hasattr(wrapper, "__wrapped__"):
        del wrapper.__wrapped__
    return wrapper
