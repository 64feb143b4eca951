"""Options that several commands share, and the rule that every option can come from the environment."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from model.errors import CbmirError, SettingError


def option(name: str, *more: str, help: str, **settings: Any) -> Any:  # noqa: A002 (Typer's own name)
    """A Typer option that is also read from the environment: ``--ray-address`` from ``CBMIR_RAY_ADDRESS``."""
    variable = "CBMIR_" + name.lstrip("-").replace("-", "_").upper()
    return typer.Option(name, *more, help=help, envvar=variable, show_envvar=False, **settings)


def complete_organ(context: typer.Context, incomplete: str) -> list[str]:
    """Organs of the index that the command line names so far."""
    from index.opening import describe_index
    from model.calibration import UNKNOWN

    address = context.params.get("index") or os.environ.get("CBMIR_INDEX")
    try:
        organs = (*describe_index(address).classes, UNKNOWN) if address else ()
    except CbmirError:
        organs = ()  # a shell that asks for completions has no place for an error
    return [organ for organ in organs if organ.startswith(incomplete)]


def complete_layer(incomplete: str) -> list[str]:
    """Layers whose features can be stored and searched."""
    return [layer for layer in ("fcl1", "fcl2", "fcl3") if layer.startswith(incomplete)]


def one_of(*choices: str) -> Callable[[str], list[str]]:
    """A completion for a fixed set of values."""

    def complete(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return complete


def chosen(name: str, value: str, choices: tuple[str, ...]) -> str:
    """``value``, if it is one of the choices.

    Raises:
        SettingError: it is not.
    """
    if value not in choices:
        raise SettingError(f"{name} {value!r} is unknown: choose one of {', '.join(choices)}")
    return value


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
    str,
    option(
        "--runtime",
        help="torch, openvino or openvino-int8: faster on processors, needs cbmir[openvino].",
        autocompletion=one_of("torch", "openvino", "openvino-int8"),
    ),
]

DeviceOption = Annotated[
    str | None, option("--device", help="Torch device; by default a GPU if there is one.", show_default=False)
]

PrecisionOption = Annotated[
    str | None,
    option(
        "--precision",
        help="float32, or bfloat16: faster on GPUs (there the default, but for the recipe paper) and CPUs with AMX.",
        autocompletion=one_of("float32", "bfloat16"),
        show_default=False,
    ),
]

YesOption = Annotated[bool, option("--yes", "-y", help="Remove without asking.")]

IndexOption = Annotated[
    str,
    option(
        "--index",
        "-i",
        help="Folder of the index, or http://HOST:6333/COLLECTION of a Qdrant server.",
        metavar="FOLDER|URL",
        show_default=False,
    ),
]
