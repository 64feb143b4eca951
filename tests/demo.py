"""``make demo``: the main job from end to end, on generated images, with the commands that a user would type."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from index.interface import Where
from index.measures import Relevance, mean_average_precision, precision_at, relevance
from index.opening import open_index
from model.repository import LabelledFile, read_repository, split_repository
from tests.phantoms import ORGANS, write_repository

IMAGES = 40
EPOCHS = 16

console = Console(highlight=False)


def main(folder: Path) -> None:
    """Make everything anew in ``folder``."""
    started = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.chdir(folder)
    files = write_repository(Path("repository"), images=IMAGES)
    console.rule("generated images")
    console.print(
        f"{files} DICOM files of {len(ORGANS)} organs are drawn by a program, in six transfer syntaxes, one of them\n"
        "with four frames and one broken on purpose. They are no patients' images, and far easier to tell apart."
    )
    cbmir("train repository --output model.safetensors", f"--epochs {EPOCHS}")
    cbmir("index repository --index index --model model.safetensors --labels folder", expected=3)
    cbmir("status --index index")
    console.rule("retrieval measures")
    measure(Path("repository"), Path("index"))
    queries = {file.label: file.path.relative_to(Path.cwd()) for file in held_out(Path("repository"))}
    cbmir(f"search {queries['eye']} --index index --top 5")
    both = f"{queries['breast']} {queries['chest']}"
    cbmir(f"search {both} --index index --top 5 --no-class-prediction --sheet sheet.png --thumbnails")
    console.rule()
    console.print(
        f"{time.monotonic() - started:.0f} s after the install. The result sheet is [bold]{folder}/sheet.png[/]."
    )


def cbmir(*parts: str, expected: int = 0) -> None:
    """Show a command, run it as a user would, and see that it ends as it should."""
    command = " ".join(parts)
    console.rule(f"[bold]cbmir {command}", align="left")
    code = subprocess.run([Path(sys.executable).with_name("cbmir"), *shlex.split(command)], check=False).returncode
    if code != expected:
        sys.exit(f"the demo has failed: exit code {code} instead of {expected}")


def held_out(repository: Path) -> list[LabelledFile]:
    """The files that ``cbmir train`` held out, by the same split."""
    return [file for file in split_repository(read_repository(repository), seed=0) if file.split == "test"]


def measure(repository: Path, folder: Path) -> None:
    """Queries are the test images, the database the training images, relevance the true label."""
    root = repository.absolute()
    test = {str(file.path.relative_to(root)) for file in held_out(repository)}
    with open_index(folder, purpose="demo") as index:
        points = dict(index.scroll())
        database = {point for point, payload in points.items() if payload.locations[0].path not in test}
        answers: dict[str, list[Relevance]] = {"without class prediction": [], "with class prediction": []}
        relevant = []
        for point, payload in points.items():
            if point in database:
                continue
            relevant.append(sum(points[other].label == payload.label for other in database))
            vector = index.vector(point, "fcl1")
            for name, organs in (
                ("without class prediction", {}),
                ("with class prediction", {"organ": [payload.organ]}),
            ):
                hits = index.nearest(vector, "fcl1", top=len(points), where=Where(must=organs), exact=True)
                labels = [hit.payload.label for hit in hits if hit.id in database]
                answers[name].append(relevance(labels, payload.label))
    for name, ranked in answers.items():
        console.print(
            f"{len(ranked)} queries, {len(database)} images, {name}: mean average precision "
            f"{mean_average_precision(ranked, relevant):.3f}, precision at 5 {precision_at(ranked, 5):.3f}"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
