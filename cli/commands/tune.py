"""``cbmir model tune``: an encoder goes on learning, on labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.commands.heads import RepositoryArgument, SeedOption, WorkersOption
from cli.console import EXIT_LEFT_OUT, output
from cli.options import SplitByOption, option


def tune(
    model: Annotated[str, typer.Argument(help="Folder of an encoder that torch runs, as 'model import' makes it.")],
    repository: RepositoryArgument,
    name: Annotated[str, option("--name", help="Folder to make: the tuned encoder, for --model.")],
    updates: Annotated[
        int, option("--updates", help="Updates of 64 images: a thousand show each of 8,000 images eight times.", min=1)
    ] = 1000,
    dimensions: Annotated[int, option("--dimensions", help="Values that its head gives.", min=2, max=1024)] = 256,
    split_by: SplitByOption = "group",
    seed: SeedOption = None,
    resume: Annotated[bool, option("--resume", help="Go on with a tuning that was interrupted.")] = False,
    device: Annotated[
        str | None, option("--device", help="Torch device [a GPU, if there is one].", show_default=False)
    ] = None,
    workers: WorkersOption = None,
) -> None:
    """Train the last layers of an encoder on labelled images, so that images of one label lie together.

    The tuned encoder has a head, whose values new indexes store. The test part is not looked at, nor is the validation
    part but for its accuracy: give 'cbmir model probe' the same --split-by and --seed, and it calibrates by images that
    neither has learned from. Ctrl-C keeps what was learned, --resume goes on. 'cbmir model export' makes an ONNX folder
    of it, several times as fast on processors.
    """
    import os

    import torch

    from cli.rendering.columns import print_fields, print_left_out
    from cli.rendering.progress import StageProgress
    from cli.rendering.training_progress import interruptible
    from model.errors import SettingError
    from model.network.bundled import find_model
    from model.network.metadata import read_metadata
    from model.training.repository import read_repository, split_repository
    from model.training.sources import split_by_source
    from model.training.tuning import TuningObserver, TuningStep, tune_encoder

    path, folder = find_model(model), Path(name).absolute()
    if not read_metadata(path).encoder:
        raise SettingError(f"{path} is no encoder: train the paper's network with 'cbmir train --from'")
    if folder.exists():
        raise SettingError(f"{folder} is there already: choose another --name")
    seed = seed or 0
    labelled = read_repository(repository)
    if split_by == "source":
        files = split_by_source(labelled, seed=seed, keep_test=True)
    else:
        files = split_repository(labelled, seed=seed)
    with StageProgress() as progress, interruptible(progress) as stopping:

        class Progress(TuningObserver):
            def loaded(self, done: int, total: int) -> None:
                progress.update("decoding", done, total)

            def step(self, step: TuningStep) -> None:
                note = f"loss {step.loss:.3f}, {step.images_per_second:,.0f} images/s"
                progress.update("tuning", step.update, step.updates, note)

            def stop(self) -> bool:
                return stopping.asked

        tuned = tune_encoder(
            path,
            files,
            folder,
            updates=updates,
            dimensions=dimensions,
            seed=seed,
            resume=resume,
            device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
            workers=os.cpu_count() or 1 if workers is None else workers,
            observer=Progress(),
        )
    for error in tuned.left_out:
        print_left_out(error.path, f"{error.reason.value}: {error.detail}")
    right = "no image" if tuned.validation is None else f"{tuned.validation:.2%} of {tuned.images[1]:,} images"
    facts = {
        "model": str(folder),
        "tuned on": f"{tuned.images[0]:,} images of {tuned.head.data['classes']} labels",
        "named right": f"{right} of the validation part",
        "head": f"{tuned.head.name}, {tuned.head.values} values, fingerprint {tuned.head.fingerprint[:8]}",
        "fingerprint": tuned.encoder.fingerprint,
    }
    print_fields(output, facts)
    if tuned.left_out:
        raise typer.Exit(EXIT_LEFT_OUT)
