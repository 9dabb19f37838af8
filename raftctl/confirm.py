"""Asking before something dangerous is done; three tiers of danger.

Mild: no question. Moderate: yes or no. Severe: the cluster's name is typed, because the worst mistakes are right commands
for the wrong cluster. Where nobody can be asked, the flags that answer are demanded; a dry run never asks. A name that is
given is checked whatever the tier: whoever names the cluster means that one.
Source: contract section 5; clig.dev (danger levels); field notes B 23, 27.
"""

from __future__ import annotations

import enum
import sys

from raftctl.errors import CtlError
from raftctl.output.render import Output
from raftctl.output.tables import Tone
from raftctl.output.text import printable
from raftctl.settings import Settings


class Tier(enum.StrEnum):
    MILD = "mild"
    MODERATE = "moderate"
    SEVERE = "severe"


def check_name(settings: Settings, cluster: str) -> None:
    """Check the name that was given, if one was, before anything is planned for this cluster.

    Raises: CtlError: `confirmation_mismatch`.
    """
    named = settings.flags.confirm
    if named is not None and named != cluster:
        raise CtlError(
            "confirmation_mismatch",
            f"--confirm says {named!r}, this is cluster {cluster!r}; nothing was done",
            hint="is the context right?",
        )


def confirm(settings: Settings, output: Output, tier: Tier, question: str, cluster: str) -> None:
    """Return when it may be done.

    Raises: CtlError: `declined`, or `confirmation_needed` naming the flags.
    """
    flags = settings.flags
    asks = settings.may_ask and sys.stdin.isatty() and sys.stderr.isatty()
    if tier is Tier.MODERATE and not flags.yes:
        if not asks:
            raise CtlError("confirmation_needed", f"{question} needs a yes, and nobody can be asked here", hint="add --yes")
        if _answer(output, f"{_sentence(question)}? [y/N] ").lower() not in {"y", "yes"}:
            raise CtlError("declined", "nothing was done")
    if tier is Tier.SEVERE:
        _confirm_name(settings, output, question, cluster, asks=asks)


def _confirm_name(settings: Settings, output: Output, question: str, cluster: str, *, asks: bool) -> None:
    check_name(settings, cluster)
    if settings.flags.confirm is not None and settings.flags.yes:
        return
    if not asks or settings.flags.yes:
        missing = f"--confirm {cluster}" if settings.flags.yes else f"--yes --confirm {cluster}"
        raise CtlError(
            "confirmation_needed", f"{question} needs the cluster's name as a confirmation", hint=f"add {missing}"
        )
    if _answer(output, f"{_sentence(question)}. Type the cluster's name ({printable(cluster)}) to go on: ") != cluster:
        raise CtlError("declined", "that is not the cluster's name; nothing was done")


def _sentence(question: str) -> str:
    return question[:1].upper() + question[1:]


def _answer(output: Output, prompt: str) -> str:
    sys.stderr.write(output.tone(prompt, Tone.STRONG))
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        sys.stderr.write("\n")
    return line.strip()
