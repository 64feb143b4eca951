"""Options that several commands share, and the rule that every option can come from the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from index.address import Address, parse_address
from model.errors import CbmirError, SettingError

RuntimeName = Literal["torch", "openvino", "openvino-int8"]
SearchRuntimeName = Literal["auto", "torch", "openvino", "openvino-int8"]
PrecisionName = Literal["float32", "bfloat16"]
QuantizationName = Literal["turbo4", "int8", "none"]
PathPrivacyName = Literal["plain", "hash"]
"""These repeat the choices of other packages, so that the help imports nothing heavy; a test keeps them equal."""

LAYERS = ("fcl1", "fcl2", "fcl3")


def option(name: str, *more: str, help: str, **settings: Any) -> Any:  # noqa: A002 (Typer's own name)
    """A Typer option that is also read from the environment: ``--ray-address`` from ``CBMIR_RAY_ADDRESS``."""
    variable = "CBMIR_" + name.lstrip("-").replace("-", "_").upper()
    return typer.Option(name, *more, help=help, envvar=variable, show_envvar=False, **settings)


def complete_organ(context: typer.Context, incomplete: str) -> list[str]:
    """Organs of the index that the command line names so far."""
    from index.opening import describe_index
    from model.network.calibration import UNKNOWN

    named = context.params.get("index") or os.environ.get("CBMIR_INDEX")
    try:
        address = parse_address(named) if isinstance(named, str) else named
        organs = (*describe_index(address).classes, UNKNOWN) if address else ()
    except CbmirError:
        organs = ()  # a shell that asks for completions has no place for an error
    return [organ for organ in organs if organ.startswith(incomplete)]


def complete_layer(incomplete: str) -> list[str]:
    """Layers whose features can be stored and searched."""
    return [layer for layer in LAYERS if layer.startswith(incomplete)]


def parse_layers(text: str) -> tuple[str, ...]:
    """``"fcl1, fcl3"`` as (fcl1, fcl3).

    Raises:
        SettingError: none is named.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise SettingError(f"--layers is empty: name at least one of {', '.join(LAYERS)}")
    return names


def parse_where(conditions: list[str]) -> dict[str, list[str]]:
    """``["modality=CT", "modality=MR", "label=liver"]`` as field → values.

    Raises:
        SettingError: a condition has no ``=``.
    """
    where: dict[str, list[str]] = {}
    for condition in conditions:
        name, separator, value = condition.partition("=")
        if not separator:
            raise SettingError(f"--where {condition!r} has no '=': write FIELD=VALUE, as in modality=CT")
        where.setdefault(name.strip(), []).append(value.strip())
    return where


def parse_range(name: str, text: str | None) -> tuple[int, int] | None:
    """``"2"`` as (2, 2), ``"1:4"`` as (1, 4).

    Raises:
        SettingError: the text is neither.
    """
    if text is None:
        return None
    low, _, high = text.partition(":")
    try:
        return int(low), int(high or low)
    except ValueError as error:
        raise SettingError(f"{name} {text!r} is no number and no range: write 2, or 1:4") from error


ModelOption = Annotated[
    Path | None,
    option("--model", "-m", help="Model file, or name of a bundled model [the bundled one].", show_default=False),
]

RuntimeOption = Annotated[
    RuntimeName,
    option("--runtime", help="What computes the network; openvino is faster on processors, needs cbmir[openvino]."),
]

SearchRuntimeOption = Annotated[
    SearchRuntimeName,
    option("--runtime", help="What computes the network; auto takes openvino where it is installed."),
]

DeviceOption = Annotated[
    str | None, option("--device", help="Torch device; by default a GPU if there is one.", show_default=False)
]

SplitByOption = Annotated[
    Literal["group", "source"],
    option("--split-by", help="Keep patients on one side of a split, or all that one source gave."),
]

TeacherOption = Annotated[
    Path | None,
    option(
        "--teacher",
        help="With --recipe scanners: a model whose features are learned too, such as an imported encoder.",
        metavar="MODEL",
        show_default=False,
    ),
]

WidthOption = Annotated[
    int | None,
    option(
        "--width",
        help="Width of FCL1-3 and of features: less makes model and index smaller and quicker [4096, the paper's].",
        min=32,
        max=8192,
        show_default=False,
    ),
]

PrecisionOption = Annotated[
    PrecisionName | None,
    option(
        "--precision",
        help="bfloat16 is faster on GPUs (there the default, but for the recipe paper) and CPUs with AMX.",
        show_default=False,
    ),
]

WHICH_FILES = "Which files"
"""Panel of the help for options of what of an archive is indexed."""

NoNestedOption = Annotated[
    bool, option("--no-nested", help="Leave zip and tar files inside a folder alone.", rich_help_panel=WHICH_FILES)
]

SkipBurnedInOption = Annotated[
    bool,
    option(
        "--skip-burned-in",
        help="Leave out images whose header says that text is burned in.",
        rich_help_panel=WHICH_FILES,
    ),
]

ViewerUrlOption = Annotated[
    str,
    option(
        "--viewer-url",
        help="Address of a viewer, with {study}, {series} or {instance}, to which hits link [the index's].",
        metavar="URL",
        show_default=False,
    ),
]

YesOption = Annotated[bool, option("--yes", "-y", help="Remove without asking.")]

ForceOption = Annotated[bool, option("--force", help="Replace the result that is there already.")]

OpenOption = Annotated[bool, option("--open", help="Open what was written, in the browser.")]

ReportFolderOption = Annotated[
    Path,
    # Named so that its variable is CBMIR_REPORT_FOLDER: CBMIR_REPORT is the file of 'cbmir index'.
    option("--report-folder", "--report", help="Folder of the report to write.", metavar="FOLDER"),
]

IndexOption = Annotated[
    Address,
    option(
        "--index",
        "-i",
        help="Folder of the index, or http://HOST:6333/COLLECTION of a Qdrant server.",
        metavar="FOLDER|URL",
        parser=parse_address,
        show_default=False,
    ),
]


def refuse_existing(path: Path, option_name: str, *, force: bool) -> None:
    """Refuse to replace a result that a person has, unless they say so; before any work is done for a new one.

    Raises:
        SettingError: a file is there.
    """
    if path.exists() and not force:
        raise SettingError(f"{option_name} {path} is there already: name another, or replace it with --force")
