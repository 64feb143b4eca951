"""Instances of a PACS, brought to the process that decodes them; files from elsewhere are read where they lie."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from model.errors import ImageError
from model.pacs.access import Access
from model.pacs.address import is_pacs, parse_pacs
from model.pacs.client import connect


def fetched(
    files: Sequence[tuple[int, str]], access: Access, wait: Callable[[], float] | None
) -> Iterator[tuple[int, str | ImageError]]:
    """Where each file can be read, until the next is asked for, or why it could not be had.

    What comes from a PACS lies in a file without a name: it goes with this process, however that ends.

    Args:
        files: number and address of each.
        access: how a PACS is spoken to.
        wait: gives the seconds to wait before an instance is asked for; ``None`` where nobody has to.
    """

    def turn() -> None:
        if wait:
            time.sleep(wait())

    for server, group in groupby(files, key=lambda file: parse_pacs(file[1]).root if is_pacs(file[1]) else ""):
        if not server:
            yield from group
            continue
        here = list(group)
        places = [(one.study, one.series, one.instance) for one in (parse_pacs(address) for _, address in here)]
        pacs = connect(server, access)
        try:
            for (number, _), (_, content) in zip(here, pacs.fetch(places, turn), strict=True):
                if isinstance(content, ImageError):
                    yield number, content
                    continue
                with tempfile.TemporaryFile(prefix="cbmir-") as file:
                    file.write(content)
                    file.flush()
                    yield number, f"/proc/{os.getpid()}/fd/{file.fileno()}"  # also for the process apart
        finally:
            pacs.close()
