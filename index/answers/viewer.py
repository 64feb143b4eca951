"""Where a viewer shows a hit: an address with the UIDs of its study, series or instance."""

from __future__ import annotations

import string
from urllib.parse import quote

from index.engines.engine import Hit
from model.errors import SettingError

VIEWER_FIELDS = ("study", "series", "instance")
"""Names that stand for UIDs in the address of a viewer."""


def check_viewer_url(template: str) -> None:
    """Refuse what is no address of a viewer; empty means none.

    Raises:
        SettingError: it is none, or a name in it stands for nothing.
    """
    if not template:
        return
    if not template.startswith(("https://", "http://", "weasis://")):
        raise SettingError(f"--viewer-url {template!r} is no address: it begins with https:// or http://")
    try:
        fields = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise SettingError(f"--viewer-url {template!r}: {error}") from error
    if unknown := fields - set(VIEWER_FIELDS):
        raise SettingError(f"--viewer-url: {min(unknown)!r} stands for nothing: there are {', '.join(VIEWER_FIELDS)}")


def viewer_address(template: str, hit: Hit) -> str:
    """Where a viewer shows a hit; empty where no viewer is known, or the hit has not the UIDs it needs."""
    header = hit.payload.header
    uids = {
        "study": header.study_instance_uid,
        "series": header.series_instance_uid,
        "instance": header.sop_instance_uid,
    }
    wanted = {name: uid for name, uid in uids.items() if f"{{{name}}}" in template}
    quoted = {name: quote(uid or "", safe="") for name, uid in uids.items()}
    return template.format(**quoted) if template and all(wanted.values()) else ""
