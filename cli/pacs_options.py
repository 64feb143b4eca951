"""Options of commands that read a PACS, and what they mean."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

from cli.options import option, parse_where
from model.errors import SettingError

if TYPE_CHECKING:
    from workers.indexing.settings import PacsSettings

_PANEL = "An archive that is a PACS"

WhereOption = Annotated[
    list[str] | None,
    option(
        "--where", help="Only series of this modality, as modality=CT.", metavar="FIELD=VALUE", rich_help_panel=_PANEL
    ),
]

SinceOption = Annotated[
    datetime | None,
    option(
        "--since", help="Only studies of this day or later.", formats=["%Y-%m-%d", "%Y%m%d"], rich_help_panel=_PANEL
    ),
]

RateOption = Annotated[
    str | None,
    option("--rate", help="Most instances fetched, as 50/s or 600/m.", metavar="N/s|N/m|N/h", rich_help_panel=_PANEL),
]

HoursOption = Annotated[
    str | None,
    option("--hours", help="Fetch only in these hours of the day, as 20-6.", metavar="H-H", rich_help_panel=_PANEL),
]

ConnectionsOption = Annotated[
    int, option("--connections", help="Most connections at once.", min=1, max=64, rich_help_panel=_PANEL)
]

AuthoritiesOption = Annotated[
    str,
    option(
        "--pacs-authorities",
        help="Certificates (PEM) of authorities to trust beside the machine's.",
        metavar="FILE",
        rich_help_panel=_PANEL,
    ),
]

CertificateOption = Annotated[
    str,
    option("--pacs-certificate", help="Our own certificate (PEM).", metavar="FILE", rich_help_panel=_PANEL),
]

KeyOption = Annotated[
    str,
    option("--pacs-key", help="Its key, if that is in another file.", metavar="FILE", rich_help_panel=_PANEL),
]

AeTitleOption = Annotated[
    str, option("--ae-title", help="Our application entity title.", metavar="TITLE", rich_help_panel=_PANEL)
]

AePortOption = Annotated[
    int | None,
    option(
        "--ae-port",
        help="Port at which we take instances by C-MOVE, where the server has no C-GET.",
        min=1,
        max=65535,
        rich_help_panel=_PANEL,
    ),
]

_UNITS = {"s": 1, "m": 60, "h": 3600}


def pacs_settings(
    where: list[str] | None,
    since: datetime | None,
    rate: str | None,
    hours: str | None,
    connections: int,
    certificates: tuple[str, str, str],
    entity: tuple[str, int | None],
) -> PacsSettings:
    """What the options mean; those of access hold for whatever else of this process reads a PACS.

    Args:
        where: conditions on series.
        since: first day of studies.
        rate: as ``50/s``.
        hours: as ``20-6``.
        connections: most at once.
        certificates: files of authorities, certificate and key.
        entity: our title and port.

    Raises:
        SettingError: one of them makes no sense.
    """
    from model.pacs.access import Access
    from model.pacs.client import Selection
    from workers.indexing.manners import Manners
    from workers.indexing.settings import PacsSettings

    conditions = parse_where(where or [])
    if unknown := conditions.keys() - {"modality"}:
        raise SettingError(f"--where {min(unknown)}=…: a PACS is asked for modality=… alone")
    modalities = tuple(value.upper() for value in conditions.get("modality", ()))
    access = Access(connections, *certificates, *entity)
    access.check()
    access.to_environment()
    return PacsSettings(Selection(modalities, _day(since)), Manners(_rate(rate), _hours(hours)), access)


def _day(since: datetime | None) -> date | None:
    return since.date() if since else None


def _rate(text: str | None) -> float | None:
    if text is None:
        return None
    parts = re.fullmatch(r"(\d+(?:\.\d+)?)\s*/\s*([smh])", text.strip())
    if not parts or not float(parts[1]):
        raise SettingError(f"--rate {text!r} is no rate: write 50/s, 600/m or 1000/h")
    return float(parts[1]) / _UNITS[parts[2]]


def _hours(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = re.fullmatch(r"(\d{1,2})\s*-\s*(\d{1,2})", text.strip())
    if not parts or int(parts[1]) > 23 or int(parts[2]) > 24 or int(parts[1]) == int(parts[2]):
        raise SettingError(f"--hours {text!r} are no hours: write 20-6 for the night, 0 to 24")
    return int(parts[1]), int(parts[2])


def parse_every(text: str) -> timedelta:
    """``"5m"`` as five minutes.

    Raises:
        SettingError: it is no time.
    """
    parts = re.fullmatch(r"(\d+)\s*([smh])", text.strip())
    if not parts or not int(parts[1]):
        raise SettingError(f"--every {text!r} is no time: write 30s, 5m or 2h")
    return timedelta(seconds=int(parts[1]) * _UNITS[parts[2]])
