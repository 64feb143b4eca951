"""``cbmir search --by series``: a whole series in, the series that look like it out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cli.commands.search import look_at
from cli.console import EXIT_ERROR, EXIT_LEFT_OUT, errors, messages, output, print_record
from cli.delivery import Delivery
from cli.pages import open_page
from model.errors import CbmirError, ImageError, JobError, SettingError

if TYPE_CHECKING:
    from index.address import Address
    from index.engines.engine import Hit, Searchable
    from index.schema import Description
    from index.search import Options
    from index.series import Pooling, SeriesAnswer
    from index.series_query import SeriesQuery
    from model.network.embedder import Embedder

Asked = tuple["SeriesQuery", tuple[str | None, ...]]
"""A query, and of each of its slices a file that shows it."""


@dataclass(frozen=True, slots=True)
class SeriesOptions:
    """How to search by series, and how to show the answers.

    Attributes:
        search: as for pictures.
        slices: of each query to compare.
        pooling: what series are ranked by.
        locate: whether to show where in each hit the matches lie.
        format: of the answers.
        sheet: to draw them into, if any.
        open_sheet: whether to open it then.
        delivery: where they go beside.
        viewer_url: address of a viewer to which they link; empty for none.
    """

    search: Options
    slices: int
    pooling: Pooling
    locate: bool
    format: Literal["table", "json", "csv"]
    sheet: Path | None
    open_sheet: bool
    delivery: Delivery
    viewer_url: str


def search_by_series(
    index: Address,
    description: Description,
    sources: Sequence[str],
    like: Sequence[str],
    model: Path | None,
    load: Callable[[Path], Embedder],
    wanted: SeriesOptions,
) -> int:
    """Answer each series in files and folders, and each stored one; return the exit code."""
    from index.filters import as_stored
    from index.opening import open_to_search, resolve_model
    from index.series import search_series

    asked: list[Asked] = []
    failed = 0
    if sources:
        embedder = load(resolve_model(index, description, model))
        asked, failed = _queries_of_files(sources, index, description, embedder, wanted)
    with open_to_search(index, purpose="cbmir search") as opened:
        look_at(opened, description, index)
        stored, notes = as_stored(opened, wanted.search.where)
        for note in notes:
            messages.print(note, soft_wrap=True, markup=False)
        more, missing = _queries_of_index(opened, like, wanted)
        asked += more
        options = replace(wanted.search, where=stored)
        answers = [search_series(opened, query, options, wanted.pooling) for query, _ in asked]
        roots = opened.description.roots
    wanted.delivery.note(index, ((one.query.uid or str(one.query.slices[0].id), _uids(one)) for one in answers))
    _show(answers, roots, wanted)
    if wanted.sheet and any(answer.hits for answer in answers):
        _draw(answers, asked, index, roots, wanted.sheet, wanted.viewer_url)
        if wanted.open_sheet:
            open_page(wanted.sheet)
    wanted.delivery.send(_matched(answers), roots)
    if failed + missing:
        return EXIT_LEFT_OUT if answers else EXIT_ERROR
    return 0


def _uids(answer: SeriesAnswer) -> list[str]:
    return [hit.uid for hit in answer.hits]


def _matched(answers: Sequence[SeriesAnswer]) -> Iterator[Hit]:
    """The slices of the series found that match the queries' slices, the best match of each series first."""
    for answer in answers:
        for series in answer.hits:
            yield from (match.hit for match in series.matches)


def _queries_of_files(
    sources: Sequence[str],
    index: Address,
    description: Description,
    embedder: Embedder,
    wanted: SeriesOptions,
) -> tuple[list[Asked], int]:
    """The series in these files and folders, and the number of sources that hold none."""
    from index.home.key import privacy_key
    from index.series_query import series_from_files

    key = privacy_key(index.home) if description.patient_groups else None
    found: list[Asked] = []
    failed = 0
    for source in sources:
        left_out: list[ImageError] = []
        try:
            queries = series_from_files(
                _files(source),
                embedder,
                layers=wanted.search.layers,
                slices=wanted.slices,
                patient_key=key,
                left_out=left_out.append,
            )
            every = [(query, tuple(one.name for one in query.slices)) for query in queries]
        except (ImageError, JobError, SettingError) as error:
            errors.show(str(error))
            failed += 1
            continue
        finally:
            for why in left_out:
                messages.print(f"left out: {why}", soft_wrap=True, markup=False)
        if not every:
            errors.show(f"{source} holds no picture: give a folder, an archive file or a file of slices")
            failed += 1
        found += every
    return found, failed


def _files(source: str) -> Iterator[str]:
    """Every file below a folder, in an archive file, of a DICOMDIR, or in a bucket; or the one file."""
    from index.roots import Root
    from model.images.sources import join
    from workers.indexing.archives import resolve_archive
    from workers.indexing.discovery import discover

    archive = resolve_archive(source)
    for directory in discover(Root(0, archive.address, members=archive.members)):
        for file in directory.files:
            yield join(archive.address, f"{directory.path}/{file.name}" if directory.path else file.name)


def _queries_of_index(index: Searchable, uids: Sequence[str], wanted: SeriesOptions) -> tuple[list[Asked], int]:
    """Stored series, and the number of UIDs that the index does not know."""
    from index.answers.words import stored_address
    from index.series_query import series_from_index

    found: list[Asked] = []
    missing = 0
    for uid in uids:
        try:
            query = series_from_index(index, uid, layers=wanted.search.layers, slices=wanted.slices)
        except SettingError as error:
            errors.show(str(error))
            missing += 1
            continue
        payloads, roots = index.retrieve([one.id for one in query.slices]), index.description.roots
        stored = [payloads.get(one.id) for one in query.slices]  # one may have been deleted meanwhile
        files = (stored_address(roots, one.locations[0]) if one else None for one in stored)
        found.append((query, tuple(files)))
    return found, missing


def _show(answers: Sequence[SeriesAnswer], roots: tuple[str, ...], wanted: SeriesOptions) -> None:
    from cli.rendering.series import print_series_answer, series_csv, series_json

    if wanted.format == "json":
        print_record(series_json(answers, roots, wanted.viewer_url) + "\n")
        return
    if wanted.format == "csv":
        print_record(series_csv(answers, roots, wanted.viewer_url))
        return
    for number, answer in enumerate(answers):
        if number:
            output.print()
        print_series_answer(answer, roots, output, wanted.viewer_url, locate=wanted.locate)
        if not answer.hits:
            messages.print_prose("nothing in the index matches: widen --organ or --where, or give --any-modality")


def _draw(
    answers: Sequence[SeriesAnswer],
    asked: Sequence[Asked],
    index: Address,
    roots: tuple[str, ...],
    sheet: Path,
    viewer_url: str,
) -> None:
    """Draw the pairs of matched slices of each hit.

    Raises:
        CbmirError: the sheet cannot be written.
    """
    from cli.rendering.series import series_tiles, series_title
    from index.answers.sheet import draw_sheet

    rows = [series_tiles(answer, roots, files, viewer_url) for answer, (_, files) in zip(answers, asked, strict=True)]
    try:
        if sheet.suffix.lower() in {".html", ".htm"}:
            from cli.rendering.answer_page import answer_page

            titles = [series_title(answer) for answer in answers]
            flat = [[tile for row in of_answer for tile in row] for of_answer in rows]
            sheet.write_text(answer_page(titles, flat, str(index)), encoding="utf-8")
        else:
            draw_sheet([row for of_answer in rows for row in of_answer]).save(sheet)
    except (OSError, ValueError) as error:
        raise CbmirError(f"the sheet {sheet} cannot be written: {error}") from error
    messages.print(f"sheet: {sheet}", soft_wrap=True, markup=False)
