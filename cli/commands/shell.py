"""``cbmir shell``: searches one after another, with the model and the index kept."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from cli.console import errors, messages, output
from cli.options import IndexOption, SearchRuntimeOption, option
from cli.warm import keeping_warm

_UID_OR_ID = re.compile(r"[0-9]+(\.[0-9]+)+|[0-9a-f]{6,32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_ENDS = {"exit", "quit"}


def shell(
    index: IndexOption,
    model: Annotated[
        Path | None,
        option("--model", "-m", help="Model file; by default the one that made the index.", show_default=False),
    ] = None,
    runtime: SearchRuntimeOption = "auto",
    device: Annotated[str, option("--device", help="Torch device.")] = "cpu",
) -> None:
    """Search again and again without starting anew: type a file, or the id or UID of a stored picture.

    A line is what 'cbmir search' takes, with its options: scan.dcm --top 5 --where modality=CT. Arrow keys bring
    earlier lines back, Tab completes paths and options; help lists the options, Ctrl-D ends. Jobs can write to the
    index meanwhile.
    """
    from cli.app import run
    from index.opening import describe_index

    describe_index(index)
    fixed = ["search", "--index", str(index), "--runtime", runtime, "--device", device]
    fixed += ["--model", str(model)] if model else []
    quiet, debug = messages.quiet, errors.debug
    before = [*(["--quiet"] if quiet else []), *(["--debug"] if debug else [])]
    messages.print(
        f"{index}: type a file, an id or a UID; help for options, Ctrl-D to end", soft_wrap=True, markup=False
    )
    with keeping_warm():
        options, flags = _options()
        for line in _lines(options):
            words = _words(line, flags)
            if words is not None:
                run([*before, *fixed, *words])


def _lines(options: list[str]) -> Iterator[str]:
    """What is typed, line by line, until Ctrl-D or exit; Ctrl-C forgets a line."""
    with _line_editing(options):
        while True:
            try:
                line = input("cbmir> " if sys.stdin.isatty() else "").strip()
            except EOFError:
                if sys.stdin.isatty():
                    output.print()
                return
            except KeyboardInterrupt:
                output.print()
                continue
            if line in _ENDS:
                return
            if line and not line.startswith("#"):
                yield line


@contextmanager
def _line_editing(options: list[str]) -> Iterator[None]:
    """Arrow keys and Tab, where the system has them; what was typed is kept nowhere, as paths may name patients."""
    try:
        import readline
    except ImportError:  # Python was built without it
        yield
        return

    def complete(text: str, state: int) -> str | None:
        found = completions(text, options)
        return found[state] if state < len(found) else None

    before, delimiters = readline.get_completer(), readline.get_completer_delims()
    readline.set_completer(complete)
    readline.set_completer_delims(" \t\n")
    readline.parse_and_bind("tab: complete")
    try:
        yield
    finally:
        readline.set_completer(before)
        readline.set_completer_delims(delimiters)


def completions(text: str, options: list[str]) -> list[str]:
    """What a word may be meant to become: an option of a search, or a path."""
    if text.startswith("-"):
        return [f"{one} " for one in options if one.startswith(text)]
    folder, slash, start = text.replace("\\ ", " ").rpartition("/")
    if folder.startswith("~"):  # which only a shell of the system understands
        folder = str(Path(folder).expanduser())
    try:
        found = sorted(Path(f"{folder}{slash}" or ".").iterdir())
    except OSError:  # no such folder
        return []
    shown = [path for path in found if path.name.startswith(start) and (start or not path.name.startswith("."))]
    names = [f"{folder}{slash}{path.name}".replace(" ", "\\ ") for path in shown]
    return [name + ("/" if path.is_dir() else " ") for name, path in zip(names, shown, strict=True)]


def _options() -> tuple[list[str], set[str]]:
    """The options of a search, and which of them take no value."""
    from cli.app import app

    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    command = group.commands["search"]
    named = {one: parameter for parameter in command.params for one in parameter.opts if one.startswith("-")}
    flags = {one for one, parameter in named.items() if getattr(parameter, "is_flag", False)}
    return sorted(one for one in named if one.startswith("--")), flags


def _words(line: str, flags: Collection[str]) -> list[str] | None:
    """A line as the arguments of a search; ``None`` if it cannot be one, which is said.

    Args:
        line: as it was typed.
        flags: options that take no value.
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        errors.show(
            f"{line!r} cannot be read: {error}: close the quotation, or put a backslash before a quotation mark"
        )
        return None
    if words in (["help"], ["?"]):
        return ["--help"]
    found: list[str] = []
    for position, word in enumerate(words):
        is_value = position > 0 and words[position - 1].startswith("-") and words[position - 1] not in flags
        if not is_value and _UID_OR_ID.fullmatch(word) and not Path(word).exists():
            found.append("--like")
        found.append(word)
    return found
