"""Where output goes: results to standard output, everything else to standard error."""

from __future__ import annotations

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
