"""``cbmir search``: an image in, the ones that look like it out."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.console import EXIT_ERROR, EXIT_LEFT_OUT, errors, messages, output, print_record
from cli.delivery import Delivery
from cli.options import (
    ForceOption,
    IndexOption,
    OpenOption,
    SearchRuntimeOption,
    ViewerUrlOption,
    complete_layer,
    complete_organ,
    option,
    parse_layers,
    parse_where,
    refuse_existing,
)
from cli.pages import open_page
from cli.warm import load_model, opened_to_search
from model.errors import CbmirError, ModelMismatchError, SettingError

if TYPE_CHECKING:
    from index.address import Address
    from index.engines.engine import Searchable
    from index.query import Query
    from index.schema import Description
    from index.search import Answer, Options
    from model.network.embedder import Embedder

Same = Literal["self", "series", "study", "patient", "none"]
GroupBy = Literal["none", "series", "study", "patient"]
By = Literal["picture", "series"]
Pooling = Literal["votes", "best", "ranks", "late", "ordered"]
Format = Literal["table", "json", "csv"]

_PAGES = (".html", ".htm")
_SHEETS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".pdf", *_PAGES)


def search(
    index: IndexOption,
    queries: Annotated[
        list[str] | None, typer.Argument(metavar="QUERY", help="Image files; - is standard input.")
    ] = None,
    like: Annotated[
        list[str] | None,
        option(
            "--like",
            help="A stored picture: its id, of which the first digits will do, SOP or Series Instance UID; repeatable.",
            metavar="ID",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        Path | None,
        option("--model", "-m", help="Model file; by default the one that made the index.", show_default=False),
    ] = None,
    top: Annotated[int, option("--top", "-n", help="Hits a query.", min=1)] = 10,
    layer: Annotated[
        str | None,
        option(
            "--layer",
            help="Layers to compare; the ranks of several are fused [the first stored; of joined models one of each].",
            metavar="fcl1|fcl2|fcl3",
            autocompletion=complete_layer,
            show_default=False,
        ),
    ] = None,
    organ: Annotated[
        list[str] | None,
        option("--organ", help="Search in this class; repeatable [the predicted one].", autocompletion=complete_organ),
    ] = None,
    no_class_prediction: Annotated[bool, option("--no-class-prediction", help="Search the whole index.")] = False,
    where: Annotated[
        list[str] | None,
        option(
            "--where",
            help="Only points with this value, or unknown: with none; repeatable: either value of one field, and all "
            "of several. Fields: modality, body_part_examined, view, localizer, organ, best_guess, label, "
            "patient_group and the UIDs.",
            metavar="FIELD=VALUE",
        ),
    ] = None,
    any_modality: Annotated[
        bool,
        option("--any-modality", help="Also find pictures of other modalities than the query's header says."),
    ] = False,
    exclude_same: Annotated[Same, option("--exclude-same", help="Leave out the query, or all of its group.")] = "self",
    group_by: Annotated[GroupBy, option("--group-by", help="Keep only the best hit of each group.")] = "none",
    by: Annotated[
        By,
        option("--by", help="series: QUERY is a folder, archive or file of slices, or a series of --like."),
    ] = "picture",
    slices: Annotated[
        int | None,
        option("--slices", help="With --by series: slices of the query to compare [16].", min=1, show_default=False),
    ] = None,
    pooling: Annotated[
        Pooling | None,
        option("--pooling", help="With --by series: what series are ranked by [ordered].", show_default=False),
    ] = None,
    locate: Annotated[
        bool, option("--locate", help="With --by series: say where in each hit the query's slices lie.")
    ] = False,
    exact: Annotated[bool, option("--exact", help="Compare with every vector.")] = False,
    frame: Annotated[
        int | None, option("--frame", help="Frame of the query [1; the middle one of --like].", min=1)
    ] = None,
    label: Annotated[str | None, option("--label", help="The query's true class, to mark wrong hits.")] = None,
    format: Annotated[Format, option("--format", help="json and csv are for programs.")] = "table",  # noqa: A002 (the option's name)
    sheet: Annotated[
        Path | None,
        option("--sheet", help="Draw queries and hits into this picture, or HTML page.", metavar="PNG|HTML"),
    ] = None,
    force: ForceOption = False,
    open_: OpenOption = False,
    viewer_url: ViewerUrlOption = "",
    audit_log: Annotated[
        Path | None,
        option("--audit-log", help="Add who asked and the ids of the hits to this file.", metavar="FILE"),
    ] = None,
    send: Annotated[
        str | None,
        option(
            "--send",
            help="Send Key Object Selections of the hits, one a study, to this PACS.",
            metavar="[dimse+tls://]AET@HOST:PORT",
            show_default=False,
        ),
    ] = None,
    thumbnails: Annotated[bool, option("--thumbnails", help="Show the pictures in the terminal.")] = False,
    runtime: SearchRuntimeOption = "auto",
    device: Annotated[str, option("--device", help="Torch device.")] = "cpu",
) -> None:
    """Find the stored images nearest to QUERY, in the class that the network predicts for it or in the whole index.

    No Ray is started. Exit code 3: some of several queries could not be answered.
    """
    from index.answers.viewer import check_viewer_url
    from index.filters import as_stored, check_label
    from index.home.key import KEY_NAME, privacy_key
    from index.opening import describe_index

    _check_request(queries, like, organ, no_class_prediction, sheet, force=force, open_=open_)
    check_viewer_url(viewer_url)
    delivery = Delivery(audit_log, send)
    delivery.check()
    _check_series(by, frame, label, group_by, slices, pooling, thumbnails=thumbnails, locate=locate)
    if by == "series" and "-" in (queries or ()):
        raise SettingError("--by series reads no standard input: name a folder or file of slices")
    description = describe_index(index)
    viewer_url = viewer_url or description.viewer_url
    options = _options(
        description, top, layer, organ, no_class_prediction, where, any_modality, exclude_same, group_by, exact
    )

    if queries and exclude_same == "patient" and privacy_key(index.home) is None:
        raise SettingError(
            f"{index.home} has not its {KEY_NAME}, so the patient of a file cannot be told: use --like ID"
        )
    load = partial(load_model, device=device, runtime=runtime, probe=bool(description.probe))
    if by == "series":
        from cli.commands.search_series import SeriesOptions, search_by_series
        from index.series_query import SLICES

        wanted = SeriesOptions(
            search=options,
            slices=slices or SLICES,
            pooling=pooling or "ordered",
            locate=locate,
            format=format,
            sheet=sheet,
            open_sheet=open_,
            delivery=delivery,
            viewer_url=viewer_url,
        )
        if code := search_by_series(index, description, queries or [], like or [], model, load, wanted):
            raise typer.Exit(code)
        return

    with ExitStack() as stack:
        files = [_input_file(query, stack) for query in queries or ()]
        found, failed = _embed(files, index, description, model, options.layers, frame, load) if files else ([], 0)
        with opened_to_search(index, "cbmir search") as opened:
            look_at(opened, description, index)
            if label is not None:
                check_label(opened, label)
            stored, notes = as_stored(opened, options.where)
            for note in notes:
                messages.print(note, soft_wrap=True, markup=False)
            pairs, missing = _answers(opened, found, like or (), replace(options, where=stored), frame, label)
            roots = opened.description.roots
        delivery.note(index, ((str(one.query.id), (str(hit.id) for hit in one.hits)) for one, _ in pairs))
        _show(pairs, roots, format, viewer_url, said=bool(notes))
        if pairs and (sheet or thumbnails):
            _show_pictures(pairs, index, roots, sheet, thumbnails, viewer_url)
            if sheet and open_:
                open_page(sheet)
        delivery.send((hit for answer, _ in pairs for hit in answer.hits), roots)
    if failed + missing:
        raise typer.Exit(EXIT_LEFT_OUT if pairs else EXIT_ERROR)


def _check_request(
    queries: list[str] | None,
    like: list[str] | None,
    organ: list[str] | None,
    no_class_prediction: bool,
    sheet: Path | None,
    *,
    force: bool,
    open_: bool,
) -> None:
    """Refuse what cannot be meant.

    Raises:
        SettingError: names the options.
    """
    if not queries and not like:
        raise SettingError("there is nothing to search for: give an image file, - for standard input, or --like ID")
    if organ and no_class_prediction:
        raise SettingError("--organ and --no-class-prediction exclude each other: give one of them")
    if open_ and not sheet:
        raise SettingError("--open has nothing to open: name the page to write by --sheet")
    if sheet:
        check_sheet(sheet, force=force)


def _check_series(
    by: By,
    frame: int | None,
    label: str | None,
    group_by: GroupBy,
    slices: int | None,
    pooling: Pooling | None,
    *,
    thumbnails: bool,
    locate: bool,
) -> None:
    """Refuse what belongs to the other kind of search.

    Raises:
        SettingError: names the options.
    """
    if by == "picture" and (locate or slices or pooling):
        raise SettingError("--slices, --pooling and --locate are for series: give --by series, too")
    if by == "series" and (frame or label or thumbnails or group_by != "none"):
        raise SettingError("--by series takes whole series: leave --frame, --label, --thumbnails and --group-by out")
    if locate and pooling not in {None, "late", "ordered"}:
        raise SettingError(f"--pooling {pooling} matches no slices, which --locate needs: take late or ordered")


def look_at(opened: Searchable, description: Description, address: Address) -> None:
    """See that the index is still the one for which the queries were made, and say who writes to it.

    Raises:
        ModelMismatchError: it was made anew meanwhile.
    """
    if opened.description.makers != description.makers:
        raise ModelMismatchError(f"{address} was made anew by another model meanwhile: ask again")
    if opened.asked:
        writer = f"{opened.asked} writes to the index: what it has stored so far was searched"
        messages.print(f"note: {writer}", soft_wrap=True, markup=False)


def _options(
    description: Description,
    top: int,
    layer: str | None,
    organ: list[str] | None,
    no_class_prediction: bool,
    where: list[str] | None,
    any_modality: bool,
    exclude_same: Same,
    group_by: GroupBy,
    exact: bool,
) -> Options:
    from index.search import Options, check_options

    options = Options(
        top=top,
        layers=parse_layers(layer) if layer else description.default_layers,
        organs=() if no_class_prediction else tuple(organ) if organ else None,
        where=parse_where(where or []),
        any_modality=any_modality,
        exclude_same=exclude_same,
        group_by=group_by,
        exact=exact,
    )
    check_options(description, options)
    return options


def check_sheet(sheet: Path, *, force: bool) -> None:
    """Say before the search why the sheet could not be written after it.

    Raises:
        SettingError: a file is there, its folder is not, or its name tells no kind of picture.
    """
    refuse_existing(sheet, "--sheet", force=force)
    if not sheet.absolute().parent.is_dir():
        raise SettingError(f"--sheet {sheet}: there is no folder {sheet.parent}: make it, or name another")
    if sheet.suffix.lower() not in _SHEETS:
        raise SettingError(f"--sheet {sheet}: its name must end with one of {', '.join(_SHEETS)}")


def _input_file(query: str, stack: ExitStack) -> tuple[str, str]:
    """The query's name and its address; standard input is kept in a temporary one."""
    if query != "-":
        return query, query
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="cbmir-query-"))
    file = Path(folder, "standard-input")
    file.write_bytes(sys.stdin.buffer.read())
    return "standard input", str(file)


def _embed(
    files: list[tuple[str, str]],
    index: Address,
    description: Description,
    model: Path | None,
    layers: tuple[str, ...],
    frame: int | None,
    load: Callable[[Path], Embedder],
) -> tuple[list[tuple[Query, str]], int]:
    """The queries that could be read, with their files, and the number of those that could not."""
    from index.home.key import privacy_key
    from index.opening import resolve_model
    from index.query import QUERY_ERRORS, query_from_image

    key = privacy_key(index.home) if description.patient_groups else None
    embedder = load(resolve_model(index, description, model))
    found: list[tuple[Query, str]] = []
    for name, file in files:
        try:
            query = query_from_image(file, embedder, layers=layers, frame=frame or 1, patient_key=key)
            found.append((replace(query, name=name), file))
        except QUERY_ERRORS as error:
            errors.show(str(error).replace(file, name))
    return found, len(files) - len(found)


def _answers(
    index: Searchable,
    found: list[tuple[Query, str]],
    like: tuple[str, ...] | list[str],
    options: Options,
    frame: int | None,
    label: str | None,
) -> tuple[list[tuple[Answer, str | None]], int]:
    """The answers, each with a file that shows its query (``None`` if there is none), and how many UIDs are unknown."""
    from index.answers.words import stored_address
    from index.query import query_from_stored
    from index.search import search as search_index

    queries: list[tuple[Query, str | None]] = []
    for query, file in found:
        stored = index.retrieve([query.id]).get(query.id)
        queries.append((replace(query, label=label or (stored.label if stored else None)), file))
    missing = 0
    for uid in like:
        try:
            query = query_from_stored(index, uid, layers=options.layers, frame=frame)
        except SettingError as error:
            errors.show(str(error))
            missing += 1
            continue
        payload = index.retrieve([query.id])[query.id]
        file = stored_address(index.description.roots, payload.locations[0])
        queries.append((replace(query, label=label or query.label), file))
    return [(search_index(index, query, options), file) for query, file in queries], missing


def _show(
    pairs: list[tuple[Answer, str | None]],
    roots: tuple[str, ...],
    format: Format,  # noqa: A002 (as the option)
    viewer_url: str,
    *,
    said: bool,
) -> None:
    """Print the answers; why there is none, unless that was ``said``."""
    from cli.rendering.tables import print_answer
    from index.answers.records import answers_csv, answers_json

    answers = [answer for answer, _ in pairs]
    if format == "json":
        print_record(answers_json(answers, roots, viewer_url) + "\n")
    elif format == "csv":
        print_record(answers_csv(answers, roots, viewer_url))
    else:
        for number, answer in enumerate(answers):
            if number:
                output.print()
            print_answer(answer, roots, output, viewer_url)
            if not answer.hits and not said:
                messages.print_prose(
                    "nothing in the index matches: widen --organ or --where, or give --no-class-prediction or "
                    "--any-modality"
                )


def _show_pictures(
    pairs: list[tuple[Answer, str | None]],
    index: Address,
    roots: tuple[str, ...],
    sheet: Path | None,
    thumbnails: bool,
    viewer_url: str,
) -> None:
    from index.answers.sheet import answer_tiles, draw_sheet, picture, stored_picture

    show = partial(stored_picture, roots)
    rows = [
        answer_tiles(answer, picture(file, answer.query.frame) if file else None, show, viewer_url)
        for answer, file in pairs
    ]
    if thumbnails:
        from cli.rendering.thumbnails import thumbnails as draw_thumbnails

        if why := output.why_no_pictures:
            messages.print(f"{why}: use --sheet", soft_wrap=True)
        for tiles in rows if why is None else ():
            output.print(draw_thumbnails(tiles, output))
    if sheet:
        try:
            if sheet.suffix.lower() in _PAGES:
                from cli.rendering.answer_page import answer_page
                from cli.rendering.tables import answer_title

                titles = [answer_title(answer) for answer, _ in pairs]
                sheet.write_text(answer_page(titles, rows, str(index)), encoding="utf-8")
            else:
                draw_sheet(rows).save(sheet)
        except (OSError, ValueError) as error:
            raise CbmirError(f"the sheet {sheet} cannot be written: {error}") from error
        messages.print(f"sheet: {sheet}", soft_wrap=True, markup=False)
