"""Opening a page or a picture that was written, for whoever sits before a screen."""

from __future__ import annotations

import webbrowser
from pathlib import Path

from cli.console import messages


def open_page(path: Path) -> None:
    """Open a file in the browser; where there is none, its address is said."""
    address = path.absolute().as_uri()
    try:
        opened = webbrowser.open(address)
    except webbrowser.Error:
        opened = False
    if not opened:
        messages.print(f"no browser could be opened here: open {address}", soft_wrap=True, markup=False)
