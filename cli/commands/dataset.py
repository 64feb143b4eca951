"""``cbmir dataset``: labelled repositories from public archives, patients kept apart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.console import EXIT_LEFT_OUT, messages, output
from cli.options import ForceOption, option, refuse_existing

if TYPE_CHECKING:
    from rich.table import Table

    from cli.rendering.progress import StageProgress
    from model.dataset.fetch import FetchObserver
    from model.dataset.plan import ClassSummary


dataset_app = typer.Typer(
    no_args_is_help=True,
    help="Labelled datasets: from the NCI Imaging Data Commons (plan, fetch, add, split, cite), or what is at hand.",
)


@dataset_app.callback()
def require_extra() -> None:
    """Labelled datasets from the NCI Imaging Data Commons: plan, fetch, add, split, cite."""
    from importlib.util import find_spec

    from model.errors import DatasetError

    if missing := [name for name in ("idc_index_data", "imagehash", "obstore", "yaml") if find_spec(name) is None]:
        raise DatasetError(f"{missing[0]} is not installed: pip install 'cbmir[dataset]'")


def _complete_queries(incomplete: str) -> list[str]:
    from model.dataset.series_queries import known_queries

    return [name for name in known_queries() if name.startswith(incomplete)]


@dataset_app.command("plan")
def plan(
    classes: Annotated[
        str,
        typer.Argument(help="paper24, organs-ct-mr, or a YAML file like theirs.", autocompletion=_complete_queries),
    ],
    plan_file: Annotated[Path, option("--output", "-o", help="Plan to write.", metavar="CSV")] = Path("plan.csv"),
    force: ForceOption = False,
    per_class: Annotated[int, option("--per-class", help="Slices of each class.", min=1)] = 300,
    seed: Annotated[int, option("--seed", help="Seed of the random choice.", min=0, max=2**32 - 1)] = 0,
    allow_nc: Annotated[
        bool, option("--allow-nc", help="Also licences that forbid commercial use, or are none of Creative Commons.")
    ] = False,
) -> None:
    """Plan a dataset, offline: which series, how many slices of each, how many bytes, which licences.

    The plan spreads over patients first, then over their series, then over slices, and is the same for the same seed.
    """
    from model.dataset.plan import plan_dataset, summarise
    from model.dataset.series_queries import read_queries
    from model.dataset.tables import write_table

    refuse_existing(plan_file, "--output", force=force)
    found = plan_dataset(read_queries(classes), per_class=per_class, seed=seed, non_commercial=allow_nc)
    write_table(found, plan_file)
    summary = summarise(found, per_class)
    output.show_table(_summary_table(summary))
    slices, size = sum(one.slices for one in summary), _say_bytes(1e6 * sum(one.megabytes for one in summary))
    output.print(f"{plan_file}: {slices:,} slices of {len(found):,} series, about {size}", soft_wrap=True, markup=False)


@dataset_app.command("fetch")
def fetch(
    plan_file: Annotated[Path, typer.Argument(help="A plan; or a plan.lock.csv, to fetch exactly the same again.")],
    folder: Annotated[Path, typer.Argument(help="Folder to make or to complete.")],
    endpoint: Annotated[
        str | None, option("--endpoint", help="S3 server that has the archive's buckets [Amazon's].", metavar="URL")
    ] = None,
    connections: Annotated[int, option("--connections", help="Number of parallel downloads.", min=1, max=128)] = 16,
) -> None:
    """Fetch the images of a plan, without an account; what is there already is not fetched again.

    Writes the images, plan.lock.csv, which names each of them with its checksum, and manifest.csv, to train on.
    """
    from cli.rendering.progress import StageProgress
    from model.dataset.bucket import Buckets
    from model.dataset.fetch import fetch_dataset

    with StageProgress() as progress:
        report = fetch_dataset(
            plan_file,
            folder,
            buckets=Buckets(endpoint),
            connections=connections,
            observer=_observer(progress),
        )
    for address, why in report.left_out.items():
        messages.print(f"left out: {why if address in why else f'{address}: {why}'}", soft_wrap=True, markup=False)
    rate = report.size / 1e6 / max(report.seconds, 1e-9)
    output.print(
        f"{folder}: {report.files:,} images, {report.fetched:,} of them fetched now "
        f"({_say_bytes(report.size)}, {rate:.1f} MB/s), {len(report.left_out):,} left out",
        soft_wrap=True,
        markup=False,
    )
    if report.left_out:
        raise typer.Exit(EXIT_LEFT_OUT)


@dataset_app.command("add")
def add(
    folder: Annotated[Path, typer.Argument(help="Dataset.")],
    sources: Annotated[list[Path], typer.Argument(help="Folder with the images of each class.")],
    classes: Annotated[
        list[str], option("--class", help="Name of a class, before its folder; repeatable.", metavar="NAME")
    ],
) -> None:
    """Add classes that the archives lack, from folders of images: --class eye ./messidor --class knee ./knees."""
    from model.dataset.manifest import add_class
    from model.errors import SettingError

    if len(classes) != len(sources):
        raise SettingError(f"{len(classes)} classes and {len(sources)} folders: give --class NAME FOLDER for each")
    left_out = 0
    for label, source in zip(classes, sources, strict=True):
        added = add_class(folder, label, source)
        for why in added.left_out.values():
            messages.print(f"left out: {why}", soft_wrap=True, markup=False)
        left_out += len(added.left_out)
        output.print(f"{label}: {added.files:,} images, {len(added.left_out):,} files left out", markup=False)
        if added.unsplit:
            output.print(
                f"the split was made without them and is gone: cbmir dataset split {folder}",
                soft_wrap=True,
                markup=False,
            )
    if left_out:
        raise typer.Exit(EXIT_LEFT_OUT)


@dataset_app.command("split")
def split(
    folder: Annotated[Path, typer.Argument(help="Dataset.")],
    test: Annotated[float, option("--test", help="Share of the images to hold out.")] = 0.3,
    seed: Annotated[int, option("--seed", help="Seed of the random choice.", min=0, max=2**32 - 1)] = 0,
    no_duplicates: Annotated[bool, option("--no-duplicates", help="Do not look for near-duplicates.")] = False,
    workers: Annotated[
        int | None, option("--workers", help="Processes that read; by default one a core.", min=1)
    ] = None,
) -> None:
    """Split a dataset into training and test by patient; near-duplicates of different patients stay together."""
    import os

    from cli.rendering.progress import StageProgress
    from model.dataset.split import split_dataset

    with StageProgress() as progress:
        report = split_dataset(
            folder,
            test=test,
            seed=seed,
            duplicates=not no_duplicates,
            workers=workers or os.cpu_count() or 1,
            progress=lambda done, total: progress.update("comparing", done, total),
        )
    for first, second in report.pairs[:10]:
        messages.print(f"near-duplicates: {first} and {second}", soft_wrap=True, markup=False)
    if not no_duplicates:
        output.print(f"{len(report.pairs):,} pairs of near-duplicates of different patients, kept together")
    output.print(", ".join(f"{count:,} images {part}" for part, count in sorted(report.images.items())))


@dataset_app.command("combine")
def combine(
    manifests: Annotated[
        list[Path],
        typer.Argument(help="CSV manifests with path, and label or region,modality[,group,source,upstream,licence]."),
    ],
    target: Annotated[Path, option("--output", "-o", help="Manifest to write.", metavar="CSV")],
    force: ForceOption = False,
    vocabulary: Annotated[
        str, option("--vocabulary", help="Names of the classes: regions, or a YAML file like it.", metavar="NAME|YAML")
    ] = "regions",
    licences: Annotated[
        Literal["all", "shippable"],
        option("--licences", help="shippable: none that forbids derived works, and no competition's data."),
    ] = "all",
    leave_out: Annotated[
        list[str] | None,
        option("--leave-out", help="A label or source that is not wanted; repeatable.", metavar="NAME"),
    ] = None,
    keep_test: Annotated[
        bool, option("--keep-test", help="What a manifest calls its test part stays one; all else is for training.")
    ] = False,
) -> None:
    """Make one manifest of several repositories, in one vocabulary, with the source of every image."""
    from model.dataset.combining import combine as combine_manifests

    refuse_existing(target, "--output", force=force)
    made = combine_manifests(
        manifests, target, vocabulary=vocabulary, licences=licences, leave_out=leave_out, keep_test=keep_test
    )
    for why, count in made.left_out.most_common():
        messages.print(f"left out: {count:,} images: {why}", soft_wrap=True, markup=False)
    images, classes = made.images.total(), len(made.images)
    output.print(
        f"{target}: {images:,} images of {classes} classes from {made.sources:,} sources", soft_wrap=True, markup=False
    )


@dataset_app.command("cite")
def cite(
    source: Annotated[Path, typer.Argument(help="Dataset, plan or lock file.")],
    target: Annotated[
        Path | None,
        option(
            "--output",
            "-o",
            help="File to write [ATTRIBUTION.md in the dataset, or beside the plan].",
            show_default=False,
        ),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Write the attribution that the licences ask for: citation, DOI and licence of every source."""
    from model.dataset.cite import ATTRIBUTION, attribution, write_attribution
    from model.dataset.manifest import read_rows
    from model.dataset.tables import read_table

    if source.is_dir():
        table = read_rows(source)
    else:
        absent = f"{source} does not exist: give a dataset, a plan or a lock file"
        table = read_table(source, ("doi", "licence"), absent=absent, origin="cbmir dataset plan")
    target = target or (source if source.is_dir() else source.parent) / ATTRIBUTION
    refuse_existing(target, "--output", force=force)
    text = attribution(table)
    write_attribution(text, target)
    output.print(f"{target}: {text.count(chr(10) + '- '):,} sources", soft_wrap=True, markup=False)


def _summary_table(summary: list[ClassSummary]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("class", no_wrap=True)
    for name in ("slices", "patients", "series", "MB"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("modalities", "licences", ""):
        table.add_column(name)
    for one in summary:
        numbers = (f"{one.slices:,}", f"{one.patients:,}", f"{one.series:,}", f"{one.megabytes:,.0f}")
        table.add_row(one.label, *numbers, ", ".join(one.modalities), ", ".join(one.licences), "; ".join(one.remarks))
    return table


def _observer(progress: StageProgress) -> FetchObserver:
    from model.dataset.fetch import PROBE_SECONDS, FetchObserver

    class FetchProgress(FetchObserver):
        def picked(self, done: int, total: int) -> None:
            progress.update("choosing slices of series", done, total)

        def planned(self, files: int, size: int, headers: int, licences: dict[str, int]) -> None:
            messages.print(
                f"planned: {files:,} files, about {_say_bytes(size)}; {_named(licences)}\n"
                f"to choose them, up to {_say_bytes(headers)} of headers are read first",
                soft_wrap=True,
            )

        def begins(self, files: int, size: int, licences: dict[str, int]) -> None:
            what = f"to fetch: {files:,} files, {_say_bytes(size)}"
            messages.print(f"{what}; {_named(licences)}" if licences else what, soft_wrap=True)

        def estimated(self, seconds: float) -> None:
            messages.print(f"at the rate of the first {PROBE_SECONDS:.0f} s: {seconds / 60:.1f} minutes more")

        def fetched(self, done: int, total: int, size: int) -> None:
            progress.update("fetching", done, total, _say_bytes(size))

    return FetchProgress()


def _named(licences: dict[str, int]) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in sorted(licences.items()))


def _say_bytes(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"
