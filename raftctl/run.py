"""One run of the program: the flags before the command, then the session of the command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from raftctl import interrupts
from raftctl.deadline import taken_by
from raftctl.session import Session
from raftctl.settings import Flags, OutputFormat


class Run:
    """What both doors into the program share; `session` is that of the command once its flags are read."""

    def __init__(self) -> None:
        self.session = Session(Flags())

    def begin(self, flags: Flags) -> None:
        """Take flags that were read; later ones weigh more."""
        self.session = Session(flags.over(self.session.flags))

    def call(self, function: Callable[..., None], values: Mapping[str, Any]) -> None:
        """Do what the command does; every command passes here, whichever door it came in by."""
        self.session.settings.check_times()
        self.session.takes = taken_by(function)
        interrupts.come()
        function(self.session, **values)
        interrupts.settled()

    def begin_json(self) -> None:
        """Errors of a command line that could not be read, but asks for JSON, are JSON too."""
        self.begin(Flags(output=OutputFormat.JSON))
