"""Where output goes: results to standard output, everything else to standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape

output = Console(highlight=False)
"""Results; nothing else is printed here, so that it can be piped."""

messages = Console(stderr=True, highlight=False)
"""Progress, warnings and notes."""


class _Errors:
    """Shows errors as one sentence; ``debug`` asks for tracebacks instead."""

    debug = False

    def show(self, sentence: str) -> None:
        """Print one error."""
        messages.print(f"[bold red]Error:[/] {escape(sentence)}", soft_wrap=True)


errors = _Errors()


@contextmanager
def native_errors_to(log: Path) -> Iterator[None]:
    """Send what libraries in C++ write to standard error into ``log``; Python's own goes where it always goes.

    Ray's core writes lines between the progress lines that are of no use to a user.
    """
    sys.stderr.flush()
    python_errors = sys.stderr
    terminal = os.dup(2)
    with log.open("ab") as file, os.fdopen(os.dup(terminal), "w", buffering=1) as stream:
        os.dup2(file.fileno(), 2)
        sys.stderr = stream
        try:
            yield
        finally:
            sys.stderr = python_errors
            os.dup2(terminal, 2)
            os.close(terminal)
