"""What a server is told when it starts."""

from __future__ import annotations

import ipaddress
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from index.address import Address
from index.answers.viewer import check_viewer_url
from model.errors import SettingError

VIEWER_FIELDS = ("study", "series", "instance")
"""Names that stand for UIDs in the address of a viewer."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask.

    Attributes:
        host: address at which the server listens.
        port: 0 takes a free one.
        names: further names by which browsers may call it, such as that of a proxy before it.
        token: asked of everybody, unless empty.
        user_header: header in which a reverse proxy says who asks; without it nobody is let in, unless it is empty. The
            proxy needs the token, too, if there is one.
        certificate: PEM file of TLS, with its ``key``; ``None`` for plain HTTP.
        largest_upload: bytes.
        uploads_a_second: requests of one client that bring pictures; it may save up ten seconds of them.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    names: tuple[str, ...] = ()
    token: str = ""
    user_header: str = ""
    certificate: Path | None = None
    key: Path | None = None
    largest_upload: int = 256 * 2**20
    uploads_a_second: float = 50.0

    @property
    def is_local(self) -> bool:
        """Whether only programs of this machine can reach it."""
        return is_loopback(self.host)


@dataclass(frozen=True, slots=True)
class ServingSettings:
    """What is served, with what, and to whom.

    Attributes:
        index: to search in.
        model: the one that made the index, if it does not lie where it lay then.
        runtime: of the network, or ``auto``.
        device: torch device.
        viewer_url: address of a viewer, with ``{study}``, ``{series}`` and ``{instance}``; empty for no links.
        audit_log: file for a line an answer; ``None`` for none.
        access: see :class:`Access`.
    """

    index: Address
    model: Path | None = None
    runtime: str = "auto"
    device: str = "cpu"
    viewer_url: str = ""
    audit_log: Path | None = None
    access: Access = field(default_factory=Access)


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def new_token() -> str:
    """A token that nobody guesses."""
    return secrets.token_urlsafe(24)


def check_settings(settings: ServingSettings) -> None:
    """Refuse what cannot be meant, before anything is loaded.

    Raises:
        SettingError: names the option.
    """
    access = settings.access
    if not access.is_local and not access.token:
        raise SettingError(f"--host {access.host} can be reached by others: they need a --token")
    if (access.certificate is None) != (access.key is None):
        raise SettingError("--tls-certificate and --tls-key belong together: give both")
    for option, file in (("--tls-certificate", access.certificate), ("--tls-key", access.key)):
        if file is not None and not file.is_file():
            raise SettingError(f"{option} {file} does not exist: name a PEM file")
    if settings.audit_log is not None and not settings.audit_log.absolute().parent.is_dir():
        raise SettingError(f"--audit-log {settings.audit_log}: there is no folder {settings.audit_log.parent}")
    check_viewer_url(settings.viewer_url)
