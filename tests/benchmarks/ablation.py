"""What each ingredient of the recipe ``fast`` is worth: the same short training with one of them exchanged.

``python -m tests.benchmarks.ablation REPOSITORY [--epochs 10] [--validation 0.2] [--precision bfloat16] [--work DIR]``.
The test part is left alone: all figures are of a validation part of the training part, its images searched for among
the others. A row that is done is not trained again.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from index.evaluation.run import EvaluationSettings, evaluate_model
from model.network.embedder import Embedder
from model.network.preprocessing import INPUT
from model.training.loop import train
from model.training.recipes import Recipe, recipe, with_precision
from model.training.repository import LabelledFile, read_repository, split_repository
from tests.benchmarks.figures import print_machine


def variants(fast: Recipe) -> dict[str, Recipe]:
    """By what is other than in ``fast``."""
    return {
        "fast": fast,
        "224 pixels from the start": replace(fast, sizes=((0.0, INPUT),)),
        "no batch normalisation": replace(fast, normalise=False),
        "no contrastive loss": replace(fast, contrastive=0.0),
        "no random views": replace(fast, augment=False),
        "constant learning rate": replace(fast, schedule="constant"),
        "the paper's initialisation": replace(fast, initialisation="paper"),
        "label smoothing 0.1": replace(fast, label_smoothing=0.1),
    }


def held_out(files: Sequence[LabelledFile]) -> list[LabelledFile]:
    """The training part alone, its validation part in the test's place."""
    return [
        replace(file, split="test" if file.split == "validation" else "train") for file in files if file.split != "test"
    ]


def row(files: Sequence[LabelledFile], chosen: Recipe, model: Path, workers: int) -> dict[str, float]:
    """Train, and measure on what is held out."""
    started = time.perf_counter()
    train(files, chosen, model, workers=workers)
    seconds = time.perf_counter() - started
    settings = EvaluationSettings(layers=("fcl1",), protocols=("training images",), searches=(True,), workers=workers)
    found = evaluate_model(Embedder.load(model), files, settings)
    without, within = (result.mean_average_precision for result in found.retrieval)
    model.unlink()
    return {
        "accuracy": found.classification.measures.accuracy,
        "without class prediction": without,
        "with class prediction": within,
        "seconds": seconds,
    }


def main() -> None:
    """Train and measure what is not done yet, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("repository", type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--validation", type=float, default=0.2)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--work", type=Path, help="keep the rows that are done here")
    arguments = parser.parse_args()
    print_machine()
    work = arguments.work or Path(tempfile.mkdtemp(prefix="cbmir-ablation-"))
    work.mkdir(parents=True, exist_ok=True)
    files = held_out(split_repository(read_repository(arguments.repository), seed=0, validation=arguments.validation))
    fast = with_precision(recipe("fast", epochs=arguments.epochs), arguments.precision)
    table = Table("fast, but", "accuracy", "mAP FCL1", "within the class", "seconds", box=None, pad_edge=False)
    for name, chosen in variants(fast).items():
        done = work / f"{name}.json"
        if not done.exists():
            done.write_text(json.dumps(row(files, chosen, work / "model.safetensors", os.cpu_count() or 1)))
        found = json.loads(done.read_text())
        cells = [f"{found['accuracy']:.2%}"]
        cells += [f"{found[key]:.3f}" for key in ("without class prediction", "with class prediction")]
        table.add_row(name, *cells, f"{found['seconds']:,.0f}")
        print(name, *cells, flush=True)
    held = sum(file.split == "test" for file in files)
    console = Console(highlight=False, width=120)
    console.print(f"{len(files) - held:,} images to train, {held:,} held out, {arguments.epochs} epochs")
    console.print(table)


if __name__ == "__main__":
    main()
