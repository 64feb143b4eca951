"""An indexing job on the terminal: its plan, and how it ended."""

from __future__ import annotations

import shlex
from pathlib import Path

from cli.console import messages, output
from cli.rendering.columns import print_left_out
from model.errors import Reason
from model.network.heads import model_layers
from model.network.metadata import read_metadata
from model.network.runtimes import computes_on_gpus
from workers.indexing.planning import Plan
from workers.indexing.report import JobReport
from workers.indexing.settings import JobSettings

MAX_LISTED = 10
"""Files left out that are listed on the terminal; the report lists all."""

BYTES_A_VALUE = {"none": 2.0, "int8": 3.0, "turbo4": 2.5}
"""Of a vector: the original in float16, and the copy that is searched first."""

BYTES_A_POINT = 2_300
"""Payload, ids, log and graph of one point: 12,500 in all with one layer, measured on 28,800 points."""


GPU = Path("/dev/nvidia0")
"""There on a machine that has one, with its driver."""


def print_plan(plan: Plan, settings: JobSettings) -> None:
    """What a job would do, and how much disk it takes."""
    from cli.rendering.columns import print_fields  # not for the sake of a job with nothing to do

    assert settings.model is not None
    values = model_layers(settings.model)
    stored = sum(values[layer] for layer in settings.layers) * BYTES_A_VALUE[settings.quantization]
    size = plan.pending * (stored + BYTES_A_POINT)
    behind = ", more lie behind --limit" if plan.limited else ""
    print_fields(
        output,
        {
            "new files": f"{plan.new:,}{behind}",
            "changed files": f"{plan.changed:,}",
            "unchanged files": f"{plan.unchanged:,}"
            + (f" ({plan.left_out_before:,} of them left out before)" if plan.left_out_before else ""),
            "gone files": f"{len(plan.gone.files):,}" if plan.gone else "not looked for, because of --limit",
            **({"labelled files": f"{plan.labelled:,}"} if settings.labels else {}),
            "not readable": f"{len(plan.unreadable):,}",
            "to read": f"{plan.bytes_pending / 2**20:,.0f} MB",
            "to store": f"about {size / 2**20:,.0f} MB, at one frame a file",
        },
    )


def print_report(report: JobReport, settings: JobSettings) -> None:
    """Print what is worth knowing of a job beside its counts."""
    if report.files_moved:
        what = f"{report.files_moved:,} files have moved here from {report.moved_from}: none of them is embedded again"
        messages.print(what, soft_wrap=True, markup=False)
    if settings.labels:
        found = report.files_found - report.left_out_by_reason.get(Reason.UNREADABLE.value, 0)
        messages.print(
            f"labels: {report.files_labelled:,} of {found:,} files have one in {settings.labels}",
            soft_wrap=True,
            markup=False,
        )
    lacking = report.left_out + report.frames_left_out
    for file in lacking[:MAX_LISTED]:
        print_left_out(file.path, file.why)
    if len(lacking) > MAX_LISTED:
        messages.print(f"… and {len(lacking) - MAX_LISTED:,} more, all named in the report")
    _print_repaired(report, settings)
    if report.repeated_uids:
        messages.print(f"{len(report.repeated_uids):,} SOP Instance UIDs belong to different pictures; each is kept")
    if report.files_gone and not report.files_pruned:
        messages.print(f"{report.files_gone:,} known files are gone from the archive: --prune forgets them")
    by_chance = sum(report.left_out_by_reason.get(reason.value, 0) for reason in (Reason.UNREADABLE, Reason.CRASHED))
    if by_chance:
        messages.print(f"{by_chance:,} of the files left out may be readable at another time: --retry-left-out tries")
    if away := report.left_out_by_reason.get(Reason.UNREACHABLE.value, 0):
        messages.print(f"{away:,} files could not be reached: the same command tries them again")
    if report.bottleneck:
        busy = f"busy {report.stage_busy[report.bottleneck]:.0%} of the time"
        messages.print(f"slowest stage: {report.bottleneck}, {busy}", soft_wrap=True)
    if report.points and _left_gpu_alone(report, settings):
        messages.print(
            "a GPU was left alone: the ONNX Runtime that is installed, which computes a part of the model, computes on "
            "processors only: pip install onnxruntime-gpu",
            soft_wrap=True,
        )
    if settings.report:
        messages.print(f"report: {settings.report}", soft_wrap=True, markup=False)


def _left_gpu_alone(report: JobReport, settings: JobSettings) -> bool:
    asked = settings.machine.gpus is not None or settings.machine.runtime != "torch"
    return not asked and GPU.exists() and not computes_on_gpus(read_metadata(report.model))


def summary(report: JobReport) -> str:
    """A job in one line."""
    line = (
        f"{report.files_indexed:,} files indexed as {report.points:,} points, {report.files_unchanged:,} unchanged, "
        f"{report.files_left_out + report.left_out_before:,} left out"
    )
    if report.left_out_before:
        line += f" ({report.left_out_before:,} of them by earlier jobs)"
    if in_part := report.files_in_part + report.in_part_before:
        line += f", {in_part:,} without some of their frames"
    if report.points:
        line += f"; {report.images_per_second:.1f} images/s, {report.seconds_total:.0f} s in all"
    return line


def _print_repaired(report: JobReport, settings: JobSettings) -> None:
    if report.files_rebuilt:
        messages.print(f"{report.files_rebuilt:,} files entered into the ledger again, from their points in the index")
    if settings.repair:
        messages.print(f"{report.files_lost:,} files had lost points in the index, under whichever archive")


def print_next(settings: JobSettings) -> None:
    """After the first job: a command that searches, with a picture of the archive if there is one to name."""
    query = _any_file(settings)
    index = shlex.quote(str(settings.index))
    messages.print(f"next: cbmir search {query} --index {index}", soft_wrap=True, markup=False)


def _any_file(settings: JobSettings) -> str:
    from cli.rendering.tables import shown_address
    from index.ledgers import reading_ledger
    from index.opening import describe_index
    from model.images.sources import join

    with reading_ledger(settings.index) as ledger:
        key = next(ledger.keys("indexed"), None) if ledger else None
    if key is None or settings.privacy.paths == "hash":
        return "QUERY"
    roots = describe_index(settings.index).roots
    return shlex.quote(shown_address(join(roots[key.root], key.path)))
