"""``cbmir status``: what an index holds, whether it is complete, and how its last job ended."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from cli.console import EXIT_LEFT_OUT, messages, output, print_record
from cli.options import IndexOption, option
from index.address import Address
from model.errors import IndexLockedError, SettingError

if TYPE_CHECKING:
    from index.address import Address
    from index.schema import Description

Format = Literal["table", "json"]

_STATES = {"writing": "half done"}


def status(
    index: IndexOption,
    format: Annotated[Format, option("--format", help="json is for programs.")] = "table",  # noqa: A002 (the option's name)
    verify: Annotated[
        bool, option("--verify", help="Look for every point of the ledger in the index, and the other way round.")
    ] = False,
) -> None:
    """Say what the index holds: points by organ and modality, model, layers, size, last job, and what is missing.

    It is complete when every file of its archives was looked at by a job that came to its end, and the vector index is
    built over every point.

    While another process holds the index, it is asked for what it has stored so far; where it does not answer, what is
    known comes from the job ledger. Exit code 3 says that --verify misses points.
    """
    from index.opening import describe_index

    description = describe_index(index)
    values = _description(str(index), description)
    held: bool | None = None if index.server else False
    try:
        contents = _contents(index)
        held = "in use" in contents or held
    except IndexLockedError as error:
        if verify:
            raise
        contents, held = {"in use": str(error)}, True
    values |= _ledger(index, description, held=held) | contents
    if verify:
        values["verified"] = _verified(index)
    values["complete"] = _is_complete(values)
    if format == "json":
        print_record(json.dumps(values, indent=1, ensure_ascii=False) + "\n")
    else:
        _print(values)
    if values.get("verified", {}).get("points_missing"):
        raise typer.Exit(EXIT_LEFT_OUT)


def _verified(address: Address) -> dict[str, int]:
    """What a comparison of ledger and index finds.

    Raises:
        SettingError: there is no ledger.
    """
    from cli.rendering.progress import StageProgress
    from index.ledgers import reading_ledger
    from index.opening import open_index
    from index.upkeep.verify import verify

    with reading_ledger(address) as ledger:
        if ledger is None:
            raise SettingError(f"--verify: {address} has no ledger: the next 'cbmir index' makes one of its points")
        with open_index(address, purpose="cbmir status", only_reads=True) as opened, StageProgress() as progress:
            found = verify(opened, ledger, progress=lambda done: progress.update("comparing", done, None))
    return {
        "points": found.points,
        "points_missing": found.points_missing,
        "files_missing": len(found.files_missing),
        "points_unknown": found.points_unknown,
    }


def _is_complete(values: dict[str, Any]) -> bool | None:
    """Whether nothing is missing; ``None`` if that cannot be told."""
    lost = values.get("verified", {}).get("points_missing")
    if values["unfinished archives"] or values["files"].get("writing") or lost:
        return False
    if values["last job"] is None or "vector index complete" not in values:
        return None
    if values["last job"]["outcome"] != "complete":
        return False
    return bool(values["vector index complete"])


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
        **({"viewer": description.viewer_url} if description.viewer_url else {}),
    }


def _ledger(address: Address, description: Description, *, held: bool | None) -> dict[str, Any]:
    """What the ledger knows; it can be read while a job writes."""
    from index.completeness import unfinished_archives
    from index.ledgers import reading_ledger

    with reading_ledger(address) as ledger:
        if ledger is None:
            return {"files": {}, "last job": None, "unfinished archives": {}}
        job = ledger.last_job()
        last = {"started": job.started, "ended": job.ended, "outcome": job.outcome} if job else None
        if last and last["outcome"] == "running" and held is False:
            last["outcome"] = "killed"
        if job and last and job.ended and job.report:
            report = json.loads(job.report)
            last |= {key: report[key] for key in ("files_indexed", "points", "files_left_out", "images_per_second")}
        unfinished = unfinished_archives(ledger, description.roots, held=held)
        counts: dict[str, int] = {**ledger.counts()}
        if in_part := ledger.indexed_in_part():
            counts["without some frames"] = in_part
        return {"files": counts, "last job": last, "unfinished archives": unfinished}


def _contents(address: Address) -> dict[str, Any]:
    from index.opening import open_to_search

    with open_to_search(address, purpose="cbmir status", wait=0.5) as opened:
        statistics = opened.statistics()
        held = {"in use": f"{address} is in use by {opened.asked}"} if opened.asked else {}
        return held | {
            "points": statistics.points,
            "vectors": statistics.vectors,
            "vectors in the graph": statistics.indexed_vectors,
            "vector index complete": statistics.complete,
            "bytes on disk": statistics.bytes_on_disk,
            "organs": opened.facet("organ"),
            "modalities": _with_unknown(opened.facet("modality"), statistics.points),
        }


def _with_unknown(counts: dict[str, int], points: int) -> dict[str, int]:
    unknown = points - sum(counts.values())
    return counts | ({"unknown": unknown} if unknown else {})


def _print(values: dict[str, Any]) -> None:
    from rich.markup import escape

    from cli.rendering.columns import print_fields

    locked = values.pop("in use", None)
    if "vectors in the graph" in values:
        values["vector index complete"] = _graph(values["vector index complete"], values, held=locked is not None)
        del values["vectors in the graph"]
    size = values.pop("bytes on disk", None)  # a server does not tell
    if size is not None:
        values["size on disk"] = f"{size / 2**20:,.1f} MB"
    if not values["unfinished archives"]:
        del values["unfinished archives"]
    if locked and values["complete"] is False:
        values["complete"] = "not yet"
    shown = {name: _TEXTS.get(name, _plain_text)(value) for name, value in values.items()}
    print_fields(output, shown)
    if locked:
        messages.print(
            f"[yellow]in use:[/] {escape(locked)}; the figures above are those of this moment, or of the ledger",
            soft_wrap=True,
        )


def _graph(complete: bool, values: Mapping[str, Any], *, held: bool) -> str:
    inside, every = values["vectors in the graph"], values["vectors"]
    counted = f"{inside:,} of {every:,} vectors are in its graph"
    if not complete and held:
        return f"not yet, {counted}"
    if not complete:
        return f"no, {counted}: run 'cbmir index' again to build it"
    return f"yes, {counted}" + (", and so few are compared one by one" if inside < every else "")


def _comparison(found: Mapping[str, int]) -> str:
    if found["points_missing"]:
        lost = f"{found['points_missing']:,} points of {found['files_missing']:,} files are not in the index"
        text = f"no, {lost}: 'cbmir index ARCHIVE --repair' embeds them again"
    else:
        text = "yes, every point of the ledger is in the index"
    if found["points_unknown"]:
        text += f"; {found['points_unknown']:,} of its points are unknown to it: 'cbmir index --repair' enters them"
    return text


_TEXTS: Final[Mapping[str, Callable[[Any], str | list[str]]]] = {
    "index": lambda path: [path],
    "model": lambda path: [path],
    "archives": list,
    "organs": lambda counts: ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none",
    "verified": _comparison,
    "files": lambda states: _counts({_STATES.get(state, state): count for state, count in states.items()}),
    "unfinished archives": lambda archives: [f"{archive}: {why}" for archive, why in archives.items()],
    "complete": lambda said: {True: "yes", False: "no: run the same 'cbmir index' again", None: "not known"}.get(
        said, said
    ),
}
"""How values are said, paths each on a line of its own; the others by their kind."""


def _plain_text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return _counts(value)
    return ", ".join(value) or "none" if isinstance(value, list) else _number(value)


def _counts(values: dict[str, Any]) -> str:
    return (
        ", ".join(f"{key.replace('_', ' ')} {_number(one)}" for key, one in values.items() if one is not None) or "none"
    )


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
