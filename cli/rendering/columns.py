"""Columns of text in which no path is ever broken, so that it can be copied from a terminal or cut from a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text

from cli.console import Terminal, messages, printable

_GAP = "  "
_INDENT = "      "


@dataclass(frozen=True, slots=True)
class Column:
    """A column of short values; numbers are ``right``-aligned."""

    name: str
    right: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """Its short values, its path, its style, and the address to which a terminal that understands links links it."""

    cells: Sequence[str]
    path: str
    style: str = ""
    link: str = ""


def print_paths(console: Terminal, columns: Sequence[Column], rows: Iterable[Row], last: str = "path") -> None:
    """Print rows whose last column is a path.

    Through a pipe every row is one line. In a terminal the path takes what the other columns leave; if that is too
    little for any of them, each path gets its own line, and if the terminal is too narrow for the other columns, those
    are spread over several lines. A path that is longer than a whole line is wrapped by the terminal, which puts no
    line end into it.
    """
    rows = [Row([printable(cell) for cell in row.cells], printable(row.path), row.style, row.link) for row in rows]
    names = [column.name for column in columns]
    widths = [max(map(cell_len, values)) for values in zip(names, *(row.cells for row in rows), strict=True)]
    width = console.width if console.is_terminal else None
    beside = sum(widths) + len(_GAP) * len(widths)
    longest = max((cell_len(row.path) for row in rows), default=0)
    if width is None or beside + longest <= width:
        _print(console, _GAP.join([*_padded(columns, widths, names), last]))
        for row in rows:
            _print(console, _GAP.join([*_padded(columns, widths, row.cells), row.path]), _style(row))
        return
    if beside - len(_GAP) <= width:
        _print(console, _GAP.join(_padded(columns, widths, names)).rstrip())
    for row in rows:
        if beside - len(_GAP) <= width:
            lines = [_GAP.join(_padded(columns, widths, row.cells)).rstrip()]
        else:
            lines = _packed([cell for cell in row.cells if cell], width)
        for line in lines:
            _print(console, line, _style(row))
        _print(console, f"{_INDENT if cell_len(row.path) + len(_INDENT) <= width else ''}{row.path}", _style(row))


def print_fields(console: Terminal, fields: Mapping[str, str | Sequence[str]]) -> None:
    """Print names and values in two columns; of several values each has its line, and only texts are wrapped."""
    name_width = max(map(len, fields), default=0) + len(_GAP)
    for name, value in fields.items():
        head = name.ljust(name_width)
        if isinstance(value, str):
            lines = _wrapped(printable(value), console.width - name_width if console.is_terminal else None)
        else:
            lines = [printable(one) for one in value] or ["none"]
        for number, line in enumerate(lines):
            start = Text(head, style="bold") if number == 0 else Text(" " * name_width)
            _print(console, start + Text(line))


def print_left_out(path: str, why: str, console: Terminal = messages) -> None:
    """Name a file, whole, and why it was left out: in one line, or below each other where that is too long."""
    path, why = printable(path), printable(" ".join(why.split()))
    head = Text.assemble(("left out:", "yellow"), " ", path)
    if not console.is_terminal or cell_len(head.plain) + 2 + cell_len(why) <= console.width:
        _print(console, head + Text(f": {why}"))
        return
    _print(console, head)
    for line in _wrapped(why, console.width - len(_INDENT)):
        _print(console, _INDENT + line)


def _padded(columns: Sequence[Column], widths: Sequence[int], cells: Sequence[str]) -> list[str]:
    padded = []
    for column, width, cell in zip(columns, widths, cells, strict=True):
        room = " " * (width - cell_len(cell))
        padded.append(room + cell if column.right else cell + room)
    return padded


def _packed(cells: Sequence[str], width: int) -> list[str]:
    """The cells in as few lines as will do, each cell whole."""
    lines = [cells[0]]
    for cell in cells[1:]:
        if cell_len(lines[-1]) + len(_GAP) + cell_len(cell) <= width:
            lines[-1] += _GAP + cell
        else:
            lines.append(_INDENT + cell)
    return lines


def _wrapped(text: str, width: int | None) -> list[str]:
    """Lines of whole words, where there is room for any; a longer word is left to the terminal."""
    if width is None or width < 1:
        return [text]
    lines: list[str] = []
    for word in text.split(" "):
        if lines and cell_len(lines[-1]) + 1 + cell_len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _style(row: Row) -> Style:
    return Style.parse(row.style) + Style(link=row.link or None)


def _print(console: Terminal, line: str | Text, style: str | Style = "") -> None:
    console.print(line if isinstance(line, Text) else Text(line, style=style), soft_wrap=True)
