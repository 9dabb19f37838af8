"""Where output goes: data to stdout, everything else to stderr.

Source: contract section 5; clig.dev (streams, colour); no-color.org.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TextIO

from raftctl import interrupts
from raftctl.errors import CtlError
from raftctl.output import document, streams
from raftctl.output.tables import Table, Tone, drawn, paint, plain
from raftctl.output.text import folded, printable
from raftctl.settings import ColorChoice, OutputFormat, Settings

View = Sequence[Table | str]
"""What a person is shown: tables and lines of text, in order."""


class Output:
    """One command's output. Warnings are shown at once and are also part of the document."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.warnings: list[str] = []
        self.acted = False
        """Something was sent that may have changed a cluster: what was done stands, and so does the exit code that tells it."""
        self._lost_by: streams.OutputLostError | None = None

    # -- data ----------------------------------------------------------------------------------------------------------

    def show(
        self,
        kind: str,
        data: object,
        view: View,
        *,
        items: Sequence[object] | None = None,
        names: Sequence[object] = (),
    ) -> None:
        """Write the result. A reader who has left is no reason to end otherwise than with one who stays.

        Args:
            data: for `-o json`.
            view: for people.
            items: for `-o jsonl`, a document each; None: `data` is the one item.
            names: for `-o name`, a line each.
        Raises: CtlError: `output_lost`, unless something was done.
        """
        if self.acted:
            interrupts.wait()  # what was done is known: from here on Ctrl-C would only make the exit code lie
        match self._settings.output:
            case OutputFormat.JSON:
                self._write_document(kind, data, indent=2)
            case OutputFormat.JSONL:
                for item in [data] if items is None else items:
                    self._write_document(kind, item, indent=None)
            case OutputFormat.NAME:
                self._write("".join(f"{printable(str(name))}\n" for name in names))
            case OutputFormat.TABLE | OutputFormat.WIDE:
                self._write("".join(f"{self._drawn(part, sys.stdout)}\n" for part in view))

    def show_one_of_many(self, kind: str, data: object, line: str, *, name: str) -> None:
        """Write one thing of a stream that has no end: a line each, as JSON too.

        Raises: OutputLostError: nobody reads it any more; CtlError: `output_lost`.
        """
        match self._settings.output:
            case OutputFormat.JSON | OutputFormat.JSONL:
                self._write_document(kind, data, indent=None)
            case OutputFormat.NAME:
                self._write(f"{printable(name)}\n")
            case OutputFormat.TABLE | OutputFormat.WIDE:
                self._write(f"{line}\n")
        if self._lost_by is not None:
            raise self._lost_by

    def _write_document(self, kind: str, data: object, indent: int | None) -> None:
        whole = document.document(kind, self._settings.context_name, data, self.warnings, document.now())
        self._write(document.as_text(whole, indent=indent) + "\n")

    def _drawn(self, part: Table | str, stream: TextIO) -> str:
        if isinstance(part, str):
            return part
        if not stream.isatty():
            return plain(part)
        return drawn(part, terminal_columns(stream), color=self._colors(stream))

    def prose(self, text: str, indent: str = "  ") -> str:
        """Return a sentence for a view, on several lines where a terminal is too narrow for one; it must be printable already."""
        return folded(text, terminal_columns(sys.stdout), indent) if sys.stdout.isatty() else text

    def line(self, text: str, tone: Tone = Tone.PLAIN) -> str:
        """Return a line for a view; `text` must be printable already."""
        return paint(text, tone, color=self._colors(sys.stdout))

    def raw(self, data: bytes) -> None:
        """Write bytes as they are; on a terminal as text that cannot steer it."""
        if sys.stdout.isatty():
            self._write(printable(data.decode("utf-8", "backslashreplace")) + "\n")
            return
        try:
            streams.write_bytes(data)
        except streams.OutputLostError as lost:
            self._lost(lost)

    def _write(self, text: str) -> None:
        if self.is_unread:
            return  # told once
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except streams.OutputLostError as lost:
            self._lost(lost)

    def _lost(self, lost: streams.OutputLostError) -> None:
        self._lost_by = lost
        if lost.reader_has_left:
            return
        if not self.acted:
            raise CtlError("output_lost", str(lost)) from lost
        self.warn(f"{lost}; what was done stands, and the exit code tells how it ended")

    @property
    def is_unread(self) -> bool:
        """Standard output takes no more."""
        return self._lost_by is not None

    @property
    def wide(self) -> bool:
        return self._settings.output is OutputFormat.WIDE

    @property
    def for_people(self) -> bool:
        return self._settings.output in {OutputFormat.TABLE, OutputFormat.WIDE}

    # -- everything else -----------------------------------------------------------------------------------------------

    def note(self, part: Table | str) -> None:
        """Say what is going on, to people: with `-o json` stderr holds the error's document and nothing else."""
        if self.for_people and not self._settings.flags.quiet:
            _tell(self._drawn(part, sys.stderr))

    def say(self, text: str) -> None:
        """Say what must be read before an answer is given; with `-o json` only on a terminal, where no program reads stderr."""
        if self._settings.output not in {OutputFormat.JSON, OutputFormat.JSONL} or sys.stderr.isatty():
            _tell(text)

    def warn(self, text: str) -> None:
        self.warnings.append(printable(text))
        if self.for_people and not self._settings.flags.quiet:
            _tell(f"{paint('warning:', Tone.WARN, color=self._colors(sys.stderr))} {printable(text)}")

    def tone(self, text: str, tone: Tone) -> str:
        """Return `text` painted for stderr."""
        return paint(text, tone, color=self._colors(sys.stderr))

    def error(self, error: CtlError) -> None:
        """Say what went wrong: `error:`, then `hint:`; a document with `-o json`."""
        if self._settings.output in {OutputFormat.JSON, OutputFormat.JSONL}:
            indent = 2 if self._settings.output is OutputFormat.JSON else None
            context = self._settings.flags.context or (
                None if self._settings.context_or_none is None else self._settings.context_name
            )
            _tell(document.as_text(document.error_document(error, context, document.now()), indent=indent))
            return
        _tell(f"{self.tone('error:', Tone.BAD)} {printable(error.message)}")
        if error.hint:
            _tell(f"{self.tone('hint:', Tone.STRONG)} {printable(error.hint)}")

    @property
    def colors_stdout(self) -> bool:
        return self._colors(sys.stdout)

    @property
    def colors_stderr(self) -> bool:
        return self._colors(sys.stderr)

    def _colors(self, stream: TextIO) -> bool:
        if self._settings.color is not ColorChoice.AUTO:
            return self._settings.color is ColorChoice.ALWAYS
        return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def terminal_columns(stream: TextIO) -> int:
    """Return how wide the terminal is: COLUMNS, else what it says, else 80."""
    named = os.environ.get("COLUMNS", "")
    if named.isdecimal() and int(named) > 0:
        return int(named)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def _tell(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
