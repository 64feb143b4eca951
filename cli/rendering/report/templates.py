"""Filling the templates of the reports, and how figures look in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from cli.rendering.report import paper
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
