"""Where output goes: results to standard output, everything else to standard error."""

from __future__ import annotations

import codecs
import os
import sys
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from io import FileIO, TextIOWrapper
from pathlib import Path
from typing import IO, TextIO

from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table

from model.errors import CbmirError

EXIT_ERROR = 1
EXIT_COMMAND_LINE = 2
EXIT_LEFT_OUT = 3
"""All done, but some files or queries were left out."""


_TURNS_WRITING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that turn the direction of writing: what follows would be read from its end."""


def printable(text: str) -> str:
    r"""The text with escapes (``\x1b``) in place of what a terminal would obey instead of showing it.

    Those are control characters, line ends among them, what turns the direction of writing, and the surrogates that
    stand for the bytes of a name that is not UTF-8.
    """
    if text.isprintable():
        return text
    return "".join(one.encode("unicode_escape").decode() if _is_obeyed(one) else one for one in text)


def _is_obeyed(character: str) -> bool:
    return unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} or character in _TURNS_WRITING


class Terminal(Console):
    """A console whose width is that of the terminal it writes to, and on which no stored name can move the cursor."""

    @property
    def size(self) -> ConsoleDimensions:
        """The terminal's size; standard input may be another terminal, or none."""
        usual, width = super().size, _size(self.file)[0]
        if self._width or os.environ.get("COLUMNS") or not width:
            return usual
        return ConsoleDimensions(width, usual.height)

    @size.setter
    def size(self, new_size: tuple[int, int]) -> None:
        self._width, self._height = new_size

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render, with control characters of texts as escapes; those of pictures and of the cursor stay."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            if control or text == "\n" or text.isprintable():
                yield segment
            else:
                yield Segment("\n".join(map(printable, text.split("\n"))), style)

    def print_prose(self, sentence: str) -> None:
        """Print prose: wrapped between words on a terminal, one line through a pipe."""
        self.print(sentence, soft_wrap=not self.is_terminal)

    def on_broken_pipe(self) -> None:
        """Let the program end as one whose reader has gone; the library would end it with exit code 1."""
        raise BrokenPipeError

    def show_table(self, table: Table) -> None:
        """Print a table; through a pipe as wide as it is, so that no cell is cut."""
        if self.is_terminal:
            self.print(table)
        else:
            wide = self.options.update(width=100_000)
            self.print(table, width=Measurement.get(self, wide, table).maximum, soft_wrap=True)

    @property
    def draws(self) -> bool:
        """Whether lines can be drawn over: it is a terminal, and no dumb one."""
        return self.is_terminal and not self.is_dumb_terminal and not self.quiet

    @property
    def why_no_pictures(self) -> str | None:
        """Why no picture can be drawn here in characters; ``None`` if one can."""
        if not self.encoding.lower().startswith("utf"):
            return f"the encoding {self.encoding} has no characters to draw pictures with"
        if self.is_dumb_terminal:
            return "a dumb terminal draws no pictures"
        if self.is_terminal and 0 in _size(self.file):
            return "this terminal does not tell its size, so that no picture can be drawn"
        return None


def _size(stream: IO[str]) -> tuple[int, int]:
    """Columns and rows of the terminal that a stream writes to; 0 of what it does not tell, or if it is none."""
    try:
        return os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return 0, 0


output = Terminal(highlight=False)
"""Results; nothing else is printed here, so that it can be piped."""

messages = Terminal(stderr=True, highlight=False)
"""Progress, warnings and notes; silent with ``--quiet``."""

_errors = Terminal(stderr=True, highlight=False)


class _Errors:
    """Shows errors as one sentence; ``debug`` asks for tracebacks instead, ``as_json`` for a line of the JSON log."""

    debug = False
    as_json = False

    def show(self, sentence: str) -> None:
        """Print one error."""
        if self.as_json:
            from cli.rendering.json_log import json_logger

            json_logger().error(sentence)
            return
        _errors.print(f"[bold red]Error:[/] {escape(printable(sentence))}", soft_wrap=True)

    def note(self, sentence: str) -> None:
        """Print what goes with an error."""
        if self.as_json:
            from cli.rendering.json_log import json_logger

            json_logger().info(sentence)
            return
        _errors.print(sentence, soft_wrap=True, markup=False)


errors = _Errors()


def sentence(error: Exception) -> str:
    """Any error in one sentence."""
    if isinstance(error, CbmirError):
        return str(error)
    if isinstance(error, PermissionError):
        return f"{error.filename} may not be read or written: ask its owner, or name another place"
    return f"unexpected {type(error).__name__}: {error} (a fault of this program: --debug shows where)"


_PLAIN = {
    "…": "...", "–": "-", "—": "-", "−": "-", "·": "-", "→": "->", "×": "x", "±": "+-", "≥": ">=", "≤": "<=",
    "“": '"', "”": '"', "‘": "'", "’": "'", "•": "*",
}  # fmt: skip
"""Our own typographic characters, for a terminal whose encoding lacks them."""


def _replace(error: UnicodeError) -> tuple[str, int]:
    """An error handler of codecs: our own characters by plain ones, any other by an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    first, last = error.start, error.end
    pieces = (_PLAIN.get(one, one.encode("ascii", "backslashreplace").decode()) for one in error.object[first:last])
    return "".join(pieces), last


codecs.register_error("cbmir", _replace)


def open_standard_streams() -> None:
    """See that standard input, output and error are there, and can write every text.

    One that was closed (``2>&-``) becomes the null device, or the next file that is opened, the index perhaps, would
    take its number and what libraries write to it. Characters that an encoding lacks are replaced instead of refused.
    """
    while True:
        descriptor = os.open(os.devnull, os.O_RDWR)
        if descriptor > 2:
            os.close(descriptor)
            break
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            stream: TextIO = os.fdopen(number, "r" if name == "stdin" else "w", encoding="utf-8")
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)  # libraries look at these, too
    for written in (sys.stdout, sys.stderr):
        reconfigure = getattr(written, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="cbmir")


def print_record(text: str) -> None:
    """Print what programs read (JSON, CSV): UTF-8 in every locale, and escaped only for a terminal."""
    if output.is_terminal:
        output.print(text, soft_wrap=True, markup=False, end="")
        return
    sys.stdout.flush()
    binary = getattr(sys.stdout, "buffer", None)
    if binary is None:
        sys.stdout.write(text)
        return
    binary.write(text.encode("utf-8", "backslashreplace"))
    binary.flush()


def _like(stream: TextIO, descriptor: int) -> TextIO:
    """A stream to a file descriptor that writes text as another does: what cannot be encoded is escaped, or fails."""
    return os.fdopen(descriptor, "w", buffering=1, encoding=stream.encoding, errors=stream.errors)


class _NoTerminal(TextIOWrapper):
    """A stream that nobody takes for a terminal, whatever its file descriptor is connected to."""

    def isatty(self) -> bool:
        return False


@cache
def _aside() -> TextIO:
    """Standard output for a library, which may keep the stream until the program ends: it is never closed."""
    return _NoTerminal(FileIO(1, "w", closefd=False), encoding="utf-8", errors="backslashreplace", write_through=True)


@contextmanager
def noise_aside(library: str) -> Iterator[None]:
    """Keep off the terminal what a library prints, also in C++, and what the processes that it starts print.

    Ray writes lines between the progress lines, and on standard output, that are of no use to a user; our own messages
    go where they always go. If an error is raised, what was written is kept in a file that is named.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    python_output, python_errors = sys.stdout, sys.stderr
    before = (os.dup(1), os.dup(2))
    kept = False
    with tempfile.NamedTemporaryFile("w", prefix="cbmir-", suffix=".log", buffering=1, delete=False) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            with _like(python_errors, os.dup(before[1])) as stream:
                sys.stdout, sys.stderr = _aside(), stream
                yield
        except Exception:
            kept = Path(log.name).stat().st_size > 0
            raise
        finally:
            sys.stdout.flush()
            sys.stdout, sys.stderr = python_output, python_errors
            for number, descriptor in enumerate(before, 1):
                os.dup2(descriptor, number)
                os.close(descriptor)
            if kept:
                errors.note(f"{library} wrote to {log.name}")
            else:
                Path(log.name).unlink()
