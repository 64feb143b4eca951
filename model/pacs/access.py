"""How a PACS is spoken to: how many connections, as whom, and by whose certificates."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from model.errors import SettingError

USER_AGENT = "cbmir (content-based medical image retrieval)"


@dataclass(frozen=True, slots=True)
class Access:
    """What may be told to every worker of a job; no secret is in it.

    Attributes:
        connections: most at once, of all workers together; a job shares them between what lists and what fetches, each
            of which has one at least.
        authorities: file of the certificates (PEM) that are trusted beside those of the machine.
        certificate: file of the client's own certificate (PEM).
        key: file of its key, if that is not in the same file.
        ae_title: our application entity title.
        ae_port: port at which we take what a C-MOVE sends; without one, C-GET is used.
    """

    connections: int = 4
    authorities: str = ""
    certificate: str = ""
    key: str = ""
    ae_title: str = "CBMIR"
    ae_port: int | None = None

    @property
    def to_list(self) -> Access:
        """The part that lists while the other fetches."""
        return replace(self, connections=max(1, self.connections // 2))

    @property
    def to_fetch(self) -> Access:
        """The part that fetches meanwhile."""
        return replace(self, connections=max(1, self.connections - self.connections // 2))

    @classmethod
    def from_environment(cls) -> Self:
        """What the environment says: ``CBMIR_PACS_AUTHORITIES`` and so on, as the options of ``cbmir index``."""
        there = os.environ.get
        return cls(
            authorities=there("CBMIR_PACS_AUTHORITIES", ""),
            certificate=there("CBMIR_PACS_CERTIFICATE", ""),
            key=there("CBMIR_PACS_KEY", ""),
            ae_title=there("CBMIR_AE_TITLE", "CBMIR"),
            ae_port=int(port) if (port := there("CBMIR_AE_PORT", "")).isdigit() else None,
        )

    def to_environment(self) -> None:
        """Tell it to all that reads a PACS in this process, and in those that it starts: queries, pictures of hits."""
        named = {
            "PACS_AUTHORITIES": self.authorities,
            "PACS_CERTIFICATE": self.certificate,
            "PACS_KEY": self.key,
            "AE_TITLE": self.ae_title,
            "AE_PORT": str(self.ae_port or ""),
        }
        os.environ.update({f"CBMIR_{name}": value for name, value in named.items() if value})

    def check(self) -> None:
        """Refuse what cannot be used.

        Raises:
            SettingError: a file is not there, or is none of certificates; an AE title is none.
        """
        for file in filter(None, (self.authorities, self.certificate, self.key)):
            if not Path(file).is_file():
                raise SettingError(f"{file} is no file of certificates: name a PEM file")
        if self.key and not self.certificate:
            raise SettingError(f"--pacs-key {self.key} is of no use without --pacs-certificate")
        if not 1 <= len(self.ae_title.strip()) <= 16 or "\\" in self.ae_title:
            raise SettingError(f"--ae-title {self.ae_title!r} is none: it has 1 to 16 characters and no backslash")
        if self.authorities or self.certificate:
            self.tls()

    def tls(self) -> ssl.SSLContext:
        """Settings of TLS: the machine's authorities, ours beside them, and the client's certificate.

        Raises:
            SettingError: a file cannot be used.
        """
        context = ssl.create_default_context()
        try:
            if self.authorities:
                context.load_verify_locations(self.authorities)
            if self.certificate:
                context.load_cert_chain(self.certificate, self.key or None)
        except (OSError, ssl.SSLError) as error:
            named = self.authorities or self.certificate
            raise SettingError(f"the certificates of {named} cannot be used: {error}") from error
        return context


BY_DEFAULT = Access()


def tls_failure(error: BaseException) -> str:
    """Why a server could not be spoken to over TLS, and what to do."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "its certificate is not trusted: name the file of its authority with --pacs-authorities"
    return "it does not agree to TLS with us: does it ask for our own certificate (--pacs-certificate)?"


@dataclass(frozen=True, slots=True, repr=False)
class Secrets:
    """Who we are, from the environment of each process alone: never in a message, a file or an argument."""

    user: str
    password: str
    token: str

    @classmethod
    def from_environment(cls) -> Self:
        """``CBMIR_PACS_USER`` and ``CBMIR_PACS_PASSWORD``, or ``CBMIR_PACS_TOKEN``, which is sent as a bearer token."""
        return cls(*(os.environ.get(f"CBMIR_PACS_{name}", "") for name in ("USER", "PASSWORD", "TOKEN")))
