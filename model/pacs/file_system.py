"""Instances of a PACS as files of fsspec: a query, or the picture of a hit, is read as from anywhere else.

Jobs fetch many instances otherwise: see :meth:`model.pacs.client.Pacs.fetch`.
"""

from __future__ import annotations

import threading
from io import BytesIO
from typing import Any

from fsspec.spec import AbstractFileSystem

from model.errors import ImageError
from model.pacs.access import Access
from model.pacs.address import is_pacs, parse_pacs
from model.pacs.client import Pacs, connect


class PacsFileSystem(AbstractFileSystem):  # type: ignore[misc] # fsspec has no types
    """Paths are whole addresses; the access is that of the environment. A server's connection is kept for the next."""

    protocol = ("dicomweb+https", "dicomweb+http", "dimse", "dimse+tls")

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self._servers: dict[str, Pacs] = {}
        self._fetching = threading.Lock()  # a connection has one question at a time

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.rstrip("/")

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """What kind of thing lies at an address; the server is asked whether it answers.

        Raises:
            JobError: it does not.
            SettingError: the address is none.
        """
        address = parse_pacs(path)
        connect(address, Access.from_environment(), patient=False).check()
        return {"name": path, "type": "file" if address.instance else "directory", "size": None}

    def exists(self, path: str, **_: Any) -> bool:
        """Whether the server answers."""
        return is_pacs(path) and bool(self.info(path))

    def _open(self, path: str, mode: str = "rb", **_: Any) -> BytesIO:  # noqa: ARG002 (fsspec's signature)
        address = parse_pacs(path)
        if not address.instance:
            raise IsADirectoryError("no instance: its address ends in /instances/UID")
        wanted = (address.study, address.series, address.instance)
        with self._fetching:
            pacs = self._servers.get(address.root) or connect(address, Access.from_environment(), patient=False)
            self._servers[address.root] = pacs
            [(_place, content)] = pacs.fetch([wanted], lambda: None)
        if isinstance(content, ImageError):
            raise content
        return BytesIO(content)
