"""Certificates of an authority of our own, for a server and its client."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme


class Certificates:
    """PEM files.

    Attributes:
        authority: by which both are known.
        client, client_key: the client's.
        server, server_key: the server's, at 127.0.0.1.
    """

    def __init__(self, folder: Path) -> None:
        names = ("authority", "client", "client_key", "server", "server_key")
        self.authority, self.client, self.client_key, self.server, self.server_key = (
            str(folder / f"{name}.pem") for name in names
        )
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.authority)
        for named, cert, key in (
            ("127.0.0.1", self.server, self.server_key),
            ("engineer@hospital.example", self.client, self.client_key),
        ):
            issued = authority.issue_cert(named)
            issued.cert_chain_pems[0].write_to_path(cert)
            issued.private_key_pem.write_to_path(key)

    def for_server(self) -> ssl.SSLContext:
        """Settings of a server that asks its clients for their certificates."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.authority)
        context.load_cert_chain(self.server, self.server_key)
        context.verify_mode = ssl.CERT_REQUIRED
        return context
