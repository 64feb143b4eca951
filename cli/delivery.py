"""What becomes of an answer beside being shown: it is noted in the audit log, and sent to a PACS."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path
from typing import TYPE_CHECKING

from cli.console import messages
from model.pacs.address import parse_entity

if TYPE_CHECKING:
    from index.address import Address
    from index.engines.engine import Hit


@dataclass(frozen=True, slots=True)
class Delivery:
    """Where answers go.

    Attributes:
        audit_log: file for a line an answer, if any.
        pacs: the application entity that is sent Key Object Selections of the hits, if any.
    """

    audit_log: Path | None
    pacs: str | None

    def check(self) -> None:
        """Say before the search why nothing could be sent.

        Raises:
            SettingError: names the address.
        """
        if self.pacs:
            parse_entity(self.pacs)

    def note(self, index: Address, answers: Iterable[tuple[str, Iterable[str]]]) -> None:
        """Write down who asked what, before anything is shown of it.

        Args:
            index: that was asked.
            answers: of each query its id, and the ids of its hits.
        """
        if not self.audit_log:
            return
        from index.audit import AuditLog

        log = AuditLog(self.audit_log)
        for query, hits in answers:
            log.write(_who(), str(index), query, hits)

    def send(self, hits: Iterable[Hit], roots: tuple[str, ...]) -> None:
        """Send what refers to the hits, if there are any, and say of which that was not possible."""
        from index.answers.words import stored_address

        addresses = dict.fromkeys(stored_address(roots, hit.payload.locations[0]) for hit in hits)
        if not (self.pacs and addresses):
            return
        from model.pacs.key_objects import send_key_objects

        sent = send_key_objects(list(addresses), self.pacs)
        for address, why in sent.left_out.items():
            messages.print(f"not sent: {address}: {why}", soft_wrap=True, markup=False)
        instances = f"{sent.instances:,} instance{'s' * (sent.instances != 1)}"
        messages.print_prose(f"sent to {self.pacs}: {sent.documents:,} key object selections of {instances}")


def _who() -> str:
    try:
        return getuser()
    except (KeyError, OSError):  # a user without a name, as in a container
        return f"user {os.getuid()}"
