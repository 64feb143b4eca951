"""Encoders on PneumoniaMNIST, beside a published table.

``python -m tests.benchmarks.pneumoniamnist NPZ MODEL [MODEL ...]``, such as
``../shared/data/pneumoniamnist/pneumoniamnist_28_full.npz bundled lite0``. The training set is the database, the test
set the queries, and five neighbours are looked at, as in "Evaluating Pre-trained Convolutional Neural Networks and
Foundation Models as Feature Extractors for Content-based Medical Image Retrieval" (2025): mAP@5 is the mean of the
precisions at the ranks of the right ones among the five, mMV@5 how often their majority is right, ACC@1 how often the
first is. Vectors are compared by cosine: raw pixels then give the 84.85, 82.37 and 82.53 that others found.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.evaluation.measures import average_precision
from model.images.frames import Frame, Header
from model.network.bundled import find_model
from model.network.embedder import Embedder
from model.network.preprocessing import batches
from tests.benchmarks.figures import print_machine

NEIGHBOURS = 5

PUBLISHED = {"VGG19 of ImageNet": (0.8658, 0.8477, 0.8317), "BiomedCLIP": (0.8826, 0.8558, 0.8574)}
"""mAP@5, mMV@5 and ACC@1 of the paper, on 28 × 28 pixels."""

Array = NDArray[np.float32]


def embed(embedder: Embedder, pictures: NDArray[np.uint8]) -> dict[str, Array]:
    """The features of 28 × 28 pictures, by layer."""
    prepare, layers = embedder.preparation, tuple(embedder.layers)
    images = np.stack([prepare(Frame(picture, 1, 1, "", Header())) for picture in pictures])
    parts = [embedder.embed(batch, layers).features for batch in batches(images)]
    return {layer: np.concatenate([part[layer] for part in parts]) for layer in layers}


def measures(
    database: Array, queries: Array, labels: NDArray[np.integer], true: NDArray[np.integer]
) -> tuple[float, float, float]:
    """mAP@5, mMV@5 and ACC@1 by cosine."""
    one, other = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (database, queries))
    nearest = np.argsort(-other.astype(np.float64) @ one.T.astype(np.float64), axis=1, kind="stable")[:, :NEIGHBOURS]
    right = labels[nearest] == true[:, None]
    average = np.mean([average_precision(hits, int(hits.sum())) for hits in right])
    return float(average), float((right.sum(1) > NEIGHBOURS / 2).mean()), float(right[:, 0].mean())


def main() -> None:
    """Measure raw pixels, and each layer of each model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--runtime", default="torch")
    arguments = parser.parse_args()
    print_machine()
    with np.load(arguments.file) as data:
        training, test = data["train_images"], data["test_images"]
        labels, true = data["train_labels"].ravel(), data["test_labels"].ravel()
    rows = dict(PUBLISHED)
    flat = [pictures.reshape(len(pictures), -1).astype(np.float32) for pictures in (training, test)]
    rows["raw pixels"] = measures(flat[0], flat[1], labels, true)
    for name in arguments.models:
        path = find_model(name)
        embedder = Embedder.load(path, runtime="torch" if path.is_dir() else arguments.runtime)
        database, queries = embed(embedder, training), embed(embedder, test)
        for layer in embedder.layers:
            rows[f"{path.stem}, {layer}"] = measures(database[layer], queries[layer], labels, true)
    print(f"{len(test):,} queries among {len(training):,} images")
    print(f"{'':40}  mAP@5   mMV@5   ACC@1")
    for name, figures in rows.items():
        print(f"{name:40}  " + "  ".join(f"{100 * figure:5.2f} " for figure in figures))


if __name__ == "__main__":
    main()
