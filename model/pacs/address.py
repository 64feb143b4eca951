"""Addresses in a PACS: a DICOMweb service or a DIMSE application entity, and what of it is meant.

::

    dicomweb+https://pacs.hospital/dicom-web
    dicomweb+http://127.0.0.1:8042/dicom-web/studies/1.2/series/1.3/instances/1.4
    dimse://ORTHANC@127.0.0.1:4242/studies/1.2
    dimse+tls://ORTHANC@pacs.hospital:2762

The path is that of DICOMweb's resources (PS3.18 section 10.1), for both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

from model.errors import SettingError

Scheme = Literal["dicomweb+https", "dicomweb+http", "dimse+tls", "dimse"]

SCHEMES: Final[tuple[Scheme, ...]] = get_args(Scheme)

_PARTS = re.compile(
    r"(?P<scheme>[a-z+]+)://(?P<server>.+?)"
    r"(?:/studies(?:/(?P<study>[^/]+)(?:/series(?:/(?P<series>[^/]+)(?:/instances(?:/(?P<instance>[^/]+))?)?)?)?)?)?/*"
)

_ENTITY = re.compile(r"(?P<title>[^@]{1,16})@(?P<host>\[[^\]]+\]|[^:@/]+):(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True)
class PacsAddress:
    """A server, and the study, series or instance that is meant of it; empty UIDs for all of them.

    Attributes:
        scheme: how it is spoken to.
        server: what stands between the scheme and ``/studies``.
    """

    scheme: Scheme
    server: str
    study: str = ""
    series: str = ""
    instance: str = ""

    @property
    def url(self) -> str:
        """Base of a DICOMweb service."""
        return f"{self.scheme.removeprefix('dicomweb+')}://{self.server}"

    @property
    def entity(self) -> tuple[str, str, int]:
        """Title, host and port of a DIMSE application entity."""
        parts = _ENTITY.fullmatch(self.server)
        assert parts
        return parts["title"], parts["host"].strip("[]"), int(parts["port"])

    @property
    def root(self) -> str:
        """The address of the whole server."""
        return f"{self.scheme}://{self.server}"


def is_pacs(address: str) -> bool:
    """Whether an address is one of a PACS."""
    return address.partition("://")[0] in SCHEMES


def series_path(study: str, series: str) -> str:
    """Where a series' instances lie below a server: the directory of the ledger."""
    return f"studies/{study}/series/{series}/instances"


def parse_entity(named: str) -> PacsAddress:
    """What ``AET@HOST:PORT`` means, or the same behind ``dimse+tls://``.

    Raises:
        SettingError: it is no application entity.
    """
    address = parse_pacs(named if "://" in named else f"dimse://{named}")
    if address.scheme.startswith("dimse"):
        return address
    raise SettingError(f"{named} is no application entity: write AET@HOST:PORT, or dimse+tls://AET@HOST:PORT")


def parse_pacs(address: str) -> PacsAddress:
    """What an address of a PACS means.

    Raises:
        SettingError: it is none.
    """
    parts = _PARTS.fullmatch(address)
    if not parts or parts["scheme"] not in SCHEMES:
        raise SettingError(
            f"{address} is no address of a PACS: write {SCHEMES[0]}://HOST/PATH or dimse://AET@HOST:PORT"
        )
    if "::" in address:  # which stands before an archive file everywhere else
        raise SettingError(f"{address}: write all parts of the IPv6 address, as [fd00:0:0:0:0:0:0:1]")
    scheme = cast("Scheme", parts["scheme"])
    if scheme.startswith("dimse") and not _ENTITY.fullmatch(parts["server"]):
        raise SettingError(f"{address} names no application entity: write {scheme}://AET@HOST:PORT")
    return PacsAddress(scheme, parts["server"], *(parts[name] or "" for name in ("study", "series", "instance")))
