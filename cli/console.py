"""Where output goes: results to standard output, everything else to standard error."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.markup import escape

output = Console(highlight=False)
"""Results; nothing else is printed here, so that it can be piped."""

messages = Console(stderr=True, highlight=False)
"""Progress, warnings and notes."""


EXIT_LEFT_OUT = 3
"""All done, but some files or queries were left out."""


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
        messages.print(f"[bold red]Error:[/] {escape(sentence)}", soft_wrap=True)

    def note(self, sentence: str) -> None:
        """Print what goes with an error."""
        if self.as_json:
            from cli.rendering.json_log import json_logger

            json_logger().info(sentence)
            return
        messages.print(sentence, soft_wrap=True, markup=False)


errors = _Errors()


def _like(stream: TextIO, descriptor: int) -> TextIO:
    """A stream to a file descriptor that writes text as another does: what cannot be encoded is escaped, or fails."""
    return os.fdopen(descriptor, "w", buffering=1, encoding=stream.encoding, errors=stream.errors)


@contextmanager
def noise_aside(library: str) -> Iterator[None]:
    """Keep off the terminal what a library prints, and what its C++ writes to standard error.

    Ray's core writes lines between the progress lines, and on standard output, that are of no use to a user; our own
    messages go where they always go. If an error is raised, what was written is kept in a file that is named.
    """
    sys.stderr.flush()
    python_errors = sys.stderr
    terminal = os.dup(2)
    kept = False
    with tempfile.NamedTemporaryFile("w", prefix="cbmir-", suffix=".log", buffering=1, delete=False) as log:
        os.dup2(log.fileno(), 2)
        try:
            with _like(python_errors, os.dup(terminal)) as stream, redirect_stdout(log):
                sys.stderr = stream
                yield
        except Exception:
            kept = Path(log.name).stat().st_size > 0
            raise
        finally:
            sys.stderr = python_errors
            os.dup2(terminal, 2)
            os.close(terminal)
            if kept:
                errors.note(f"{library} wrote to {log.name}")
            else:
                Path(log.name).unlink()
