"""``cbmir inspect``: one file as the reader sees it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import messages, output
from cli.options import ForceOption, ModelOption, option, refuse_existing

if TYPE_CHECKING:
    from model.images.inspection import Inspection


def inspect(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Image file, or fsspec address.")],
    frame: Annotated[int, option("--frame", help="Frame or page.", min=1)] = 1,
    model: ModelOption = None,
    no_prediction: Annotated[
        bool, option("--no-prediction", help="Do not ask the model what it takes the picture for.")
    ] = False,
    no_picture: Annotated[bool, option("--no-picture", help="Do not show the picture.")] = False,
    save: Annotated[
        Path | None, option("--save", help="Write the frame as displayed into this picture.", metavar="PNG")
    ] = None,
    force: ForceOption = False,
) -> None:
    """Show what the reader sees in FILE: encoding, decoder, frames, window, header in short, and the picture.

    Patient data is not shown. A file that would be left out of an index is refused with the reason.
    """
    from cli.rendering.columns import print_fields
    from model.images.inspection import inspect_file

    if save:
        refuse_existing(save, "--save", force=force)
    inspection = inspect_file(file, frame)
    facts: dict[str, str | list[str]] = {**_facts(file, inspection), "file": [file]}
    if not no_prediction:
        facts["predicted"] = _predicted(file, frame, model)
    print_fields(output, facts)
    _show(inspection, save, terminal=not no_picture)


def _facts(file: str, inspection: Inspection) -> dict[str, str]:
    frame = inspection.frame
    header = {
        name: value for name in frame.header.__dataclass_fields__ if (value := getattr(frame.header, name)) is not None
    }
    rows, columns = frame.pixels.shape
    return {
        "file": file,
        **inspection.facts,
        "frame": f"{frame.number} of {frame.of}, {rows} × {columns} pixels",
        **{name.replace("_", " "): str(value) for name, value in header.items()},
    }


def _predicted(file: str, frame: int, model: Path | None) -> str:
    from index.answers.words import organ_text, probability_text
    from index.query import query_from_image
    from model.network.bundled import find_model
    from model.network.embedder import Embedder

    embedder = Embedder.load(find_model(model))
    query = query_from_image(file, embedder, layers=tuple(embedder.layers)[:1], frame=frame)
    return f"{organ_text(query)} ({probability_text(query)})" if query.organ else "nothing: the model has no classes"


def _show(inspection: Inspection, save: Path | None, *, terminal: bool) -> None:
    from PIL import Image

    from model.errors import CbmirError

    picture = Image.fromarray(inspection.frame.pixels)
    if save:
        try:
            picture.save(save)
        except (OSError, ValueError) as error:
            raise CbmirError(f"the picture {save} cannot be written: {error}") from error
    why = output.why_no_pictures
    if terminal and why:
        messages.print(f"{why}: use --save", soft_wrap=True)
    elif terminal:
        from cli.rendering.thumbnails import terminal_picture

        output.print(terminal_picture(picture, min(60, output.width)))
