"""What computes the network: images a second over eager torch, and what is lost by it.

``python -m tests.benchmarks.runtimes [--model FILE] [--repository FOLDER|MANIFEST]``. With a repository,
queries are its test images and the database its training images; the database is torch's, so that each runtime's
queries have to find what another has indexed.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np

from index.evaluation.ranking import Rankings
from index.evaluation.retrieval import RetrievalResult, evaluate_retrieval
from model.network.bundled import find_model
from model.network.embedder import Embedder
from model.network.runtimes import Runtime
from model.training.evaluation import Predictions, predict
from model.training.loading import joined, load_repository
from model.training.repository import read_repository, split_test
from tests.benchmarks.figures import Figure, print_figures, print_machine

BATCH, ROUNDS, SECONDS = 32, 4, 3.0
TOP = 10


def run(model: Path, repository: Path | None) -> list[Figure]:
    """The rates, by turns; then accuracy, mean average precision and shared hits of each runtime."""
    embedders = {name: Embedder.load(model, runtime=name) for name in get_args(Runtime)}
    images = np.random.default_rng(0).integers(0, 256, (BATCH, 224, 224), dtype=np.uint8)
    rates: dict[str, list[float]] = {name: [] for name in embedders}
    for _ in range(ROUNDS):
        for name, embedder in embedders.items():
            rates[name].append(_rate(partial(embedder.embed, images)))
    means = {name: float(np.mean(found)) for name, found in rates.items()}
    eager = means["torch"]
    figures = [Figure(name, f"{rate:.0f} images/s", f"torch {eager:.0f}", rate / eager) for name, rate in means.items()]
    return figures + (_losses(embedders, repository) if repository else [])


def _rate(embed: Callable[[], object]) -> float:
    embed()
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS:
        embed()
        count += BATCH
    return count / (time.perf_counter() - started)


def _losses(embedders: dict[str, Embedder], repository: Path) -> list[Figure]:
    classes = embedders["torch"].metadata.classes
    files = split_test(read_repository(repository), seed=embedders["torch"].metadata.seed)
    parts, _ = load_repository(files, classes, workers=os.cpu_count() or 1)
    database = predict(embedders["torch"], joined([parts["train"], parts["validation"]]), ("fcl1",))
    figures, hits, exact = [], {}, {}
    for name, embedder in embedders.items():
        queries = predict(embedder, parts["test"], ("fcl1",))
        found = _retrieval(queries, database, classes)
        accuracy = float((queries.predicted == queries.labels).mean())
        hits[name], exact[name] = found.rankings[:, :TOP], accuracy
        shared = _shared(hits["torch"], hits[name])
        text = f"accuracy {accuracy:.2%}, mAP {found.mean_average_precision:.4f}, {shared:.1%} of torch's {TOP} hits"
        figures.append(Figure(f"{name} queries, torch's index", text, f"torch {exact['torch']:.2%}"))
    return figures


def _retrieval(queries: Predictions, database: Predictions, classes: tuple[str, ...]) -> RetrievalResult:
    results = evaluate_retrieval(queries, database, classes, "training images", ("fcl1",), searches=(True,))
    return next(iter(results))  # the first is without class prediction


def _shared(one: Rankings, other: Rankings) -> float:
    return float(np.mean([len(set(a) & set(b)) / TOP for a, b in zip(one.tolist(), other.tolist(), strict=True)]))


def main() -> None:
    """Compare with what the command line gives."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--repository", type=Path)
    arguments = parser.parse_args()
    print_machine()
    print_figures(run(find_model(arguments.model), arguments.repository))


if __name__ == "__main__":
    main()
