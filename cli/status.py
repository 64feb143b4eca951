"""``cbmir status``: what an index holds, whether it is complete, and how its last job ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cli.console import messages, output
from cli.options import IndexOption, chosen, one_of, option
from model.errors import IndexLockedError

if TYPE_CHECKING:
    from index.address import ServerAddress
    from index.schema import Description

_FORMATS = ("table", "json")


def status(
    index: IndexOption,
    format: Annotated[  # noqa: A002 (the option's name)
        str, option("--format", help="table or json.", autocompletion=one_of(*_FORMATS))
    ] = "table",
) -> None:
    """Say what the index holds: points by organ and modality, model, layers, size, whether it is complete, last job.

    While another process holds the index, the answer comes from the job ledger and names that process.
    """
    from index.address import home, parse_address
    from index.opening import describe_index

    chosen("--format", format, _FORMATS)
    address, folder = parse_address(index), home(index)
    description = describe_index(address)
    values = _description(str(address), description) | _ledger(folder)
    try:
        values |= _contents(address)
        if isinstance(address, Path) and values["last job"] and values["last job"]["outcome"] == "running":
            values["last job"]["outcome"] = "killed"  # nobody holds the index; a server's may be written by many
    except IndexLockedError as error:
        values["in use"] = str(error)
    if format == "json":
        print(json.dumps(values, indent=1, ensure_ascii=False))
    else:
        _print(values)


def _description(address: str, description: Description) -> dict[str, Any]:
    return {
        "index": address,
        "model": description.model_path,
        "model fingerprint": description.model_fingerprint,
        "classes": len(description.classes),
        "layers": list(description.layers),
        "quantization": description.quantization,
        "path privacy": description.path_privacy,
        "patient groups": description.patient_groups,
        "archives": list(description.roots),
    }


def _ledger(folder: Path) -> dict[str, Any]:
    """What the ledger knows; it can be read while a job writes."""
    from workers.ledger import NAME, Ledger

    if not (folder / NAME).exists():
        return {"files": {}, "last job": None}
    ledger = Ledger(folder, read_only=True)
    try:
        job = ledger.last_job()
        last = {"started": job.started, "ended": job.ended, "outcome": job.outcome} if job else None
        if job and last and job.report:
            report = json.loads(job.report)
            last |= {key: report[key] for key in ("files_indexed", "points", "files_left_out", "images_per_second")}
        return {"files": ledger.counts(), "last job": last}
    finally:
        ledger.close()


def _contents(address: Path | ServerAddress) -> dict[str, Any]:
    from index.opening import open_index

    with open_index(address, purpose="cbmir status", wait=0.5) as opened:
        statistics = opened.statistics()
        return {
            "points": statistics.points,
            "vectors": statistics.vectors,
            "vectors in the graph": statistics.indexed_vectors,
            "complete": statistics.complete,
            "bytes on disk": statistics.bytes_on_disk,
            "organs": opened.facet("organ"),
            "modalities": _with_unknown(opened.facet("modality"), statistics.points),
        }


def _with_unknown(counts: dict[str, int], points: int) -> dict[str, int]:
    unknown = points - sum(counts.values())
    return counts | ({"unknown": unknown} if unknown else {})


def _print(values: dict[str, Any]) -> None:
    from rich.markup import escape

    from cli.rendering.tables import fields_table

    locked = values.pop("in use", None)
    shown: dict[str, str] = {}
    for name, value in values.items():
        match value:
            case None if name == "bytes on disk":
                continue  # a server does not tell
            case None:
                shown[name] = "none"
            case False if name == "complete":
                shown[name] = "no: run 'cbmir index' again to build the vector index"
            case bool():
                shown[name] = "yes" if value else "no"
            case dict():
                shown[name] = (
                    ", ".join(f"{key} {_number(one)}" for key, one in value.items() if one is not None) or "none"
                )
            case list():
                shown[name] = ", ".join(map(str, value)) or "none"
            case _ if name == "bytes on disk":
                shown["size on disk"] = f"{value / 2**20:,.1f} MB"
            case _:
                shown[name] = _number(value)
    output.print(fields_table(shown))
    if locked:
        messages.print(
            f"[yellow]in use:[/] {escape(locked)}; the figures above are those of the ledger", soft_wrap=True
        )


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
