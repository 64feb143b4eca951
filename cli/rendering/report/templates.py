"""Filling the templates of the reports, and how figures look in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from cli.rendering.report import paper
from model.errors import CbmirError
from model.training.measures import Interval

TEMPLATES = Path(__file__).parent


def render(template: str, **values: Any) -> str:
    """Fill one of the templates beside this module; HTML is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=template.endswith(".html.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"percent": percent, "figure": figure, "interval": interval, "breakable": breakable}
    return environment.get_template(template).render(style=(TEMPLATES / "style.css").read_text(), paper=paper, **values)


def write_pages(folder: Path, template: str, about: Mapping[str, Any], rows: Sequence[Any], **shown: Any) -> None:
    """Write ``index.html`` and ``report.md`` by the templates of that name, and ``report.json``, into a folder.

    Args:
        folder: made before.
        template: name of both, without their endings.
        about: what all three say beside the rows.
        rows: each with ``to_json``.
        shown: what only the templates take; without any the rows.

    Raises:
        CbmirError: the folder cannot be written.
    """
    values = {**about, **(shown or {"rows": rows})}
    try:
        for ending, name in (("html", "index.html"), ("md", "report.md")):
            (folder / name).write_text(render(f"{template}.{ending}.j2", **values), encoding="utf-8")
        record = {**about, "rows": [row.to_json() for row in rows]}
        (folder / "report.json").write_text(json.dumps(record, indent=1))
    except OSError as error:
        raise CbmirError(f"the report cannot be written to {folder}: {error.strerror or error}") from error


def percent(value: float | None) -> str:
    """0…1 as per cent with two digits, a dash for what does not exist."""
    return "–" if value is None else f"{value:.2%}"


def figure(value: float | None) -> str:
    """0…1 with three digits, a dash for what does not exist."""
    return "–" if value is None else f"{value:.3f}"


def interval(value: Interval | None, show: Callable[[float | None], str] = figure) -> str:
    """An interval in figures, or in per cent."""
    return "–" if value is None else f"{show(value.low)} – {show(value.high)}"


def breakable(name: str) -> Markup:
    """A name, escaped for HTML, whose line may be broken after underscores."""
    return escape(name).replace("_", Markup("_<wbr>"))
