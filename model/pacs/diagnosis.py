"""Whether a PACS answers us."""

from __future__ import annotations

import time
from contextlib import closing

from model.diagnosis import Check
from model.errors import CbmirError
from model.pacs.access import Access
from model.pacs.client import connect


def check_pacs(address: str) -> Check:
    """Ask a PACS something small: a C-ECHO, or for one study."""
    started = time.perf_counter()
    try:
        with closing(connect(address, Access.from_environment(), patient=False)) as pacs:
            pacs.check()
    except CbmirError as error:
        return Check("PACS", "lacking", str(error), "see docs/pacs.md: address, user, certificates, AE title")
    return Check("PACS", "fine", f"{address} answers in {1000 * (time.perf_counter() - started):.0f} ms")
