"""How well layers, heads and encoders retrieve frames of real scanners, by patient.

``python -m tests.benchmarks.encoders SCANNERS MODEL [MODEL ...]``, such as ``../shared/data/scanners bundled lite0``.
A neighbour is right if it shows the query's region in the query's modality; the query's own patient is left out of the
answer, and a query of which no other patient has the like is not counted. Intervals are of 1,000 resamples of patients.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from model.images.frames import Frame
from model.network.bundled import find_model
from model.network.embedder import Embedder
from model.network.preprocessing import batches
from model.training.loading import LabelledFrames, Prepare, load_repository
from model.training.repository import LabelledFile
from tests.benchmarks.figures import print_machine

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scanners:
    """Frames with what they show, in which modality, of whom."""

    frames: LabelledFrames
    shown: NDArray[np.object_]
    modality: NDArray[np.object_]
    patient: NDArray[np.object_]


def read(folder: Path, prepare: Prepare) -> Scanners:
    """The frames of a folder with ``manifest.csv``, prepared for a model."""
    table = pd.read_csv(folder / "manifest.csv", dtype=str).fillna("")
    files = [LabelledFile(folder / path, "any", path, "train") for path in table["path"]]
    frames = load_repository(files, ["any"], prepare=prepare)[0]["train"]
    rows = table.iloc[frames.files]
    shown = (rows["region"] + " " + rows["modality"]).to_numpy(object)
    return Scanners(frames, shown, rows["modality"].to_numpy(object), rows["group"].to_numpy(object))


def hits(
    features: Array, scanners: Scanners, *, within_modality: bool
) -> tuple[NDArray[np.bool_], NDArray[np.object_]]:
    """Whether each query's nearest neighbour of another patient is right, and the queries' patients."""
    values = features.astype(np.float64)
    squares = (values**2).sum(1)
    distances = squares[:, None] + squares[None] - 2 * values @ values.T
    other = scanners.patient[:, None] != scanners.patient[None]
    alike = scanners.shown[:, None] == scanners.shown[None]
    distances[~other] = np.inf
    if within_modality:
        distances[scanners.modality[:, None] != scanners.modality[None]] = np.inf
    counted = (alike & other).any(1)
    right = scanners.shown[distances.argmin(1)] == scanners.shown
    return right[counted], scanners.patient[counted]


def by_patient(right: NDArray[np.bool_], patients: NDArray[np.object_]) -> str:
    """The share that is right, with its 95 % interval over patients."""
    _, number = np.unique(patients, return_inverse=True)
    sums, counts = np.bincount(number, right), np.bincount(number)
    chosen = np.random.default_rng(0).integers(0, len(counts), (1000, len(counts)))
    shares = sums[chosen].sum(1) / counts[chosen].sum(1)
    low, high = np.percentile(shares, [2.5, 97.5])
    return f"{right.mean():.3f} [{low:.3f}, {high:.3f}]"


def thumbnail(frame: Frame) -> NDArray[np.uint8]:
    """32 × 32 grey pixels: what any network has to surpass."""
    from PIL import Image

    return np.asarray(Image.fromarray(frame.pixels).resize((32, 32), Image.Resampling.BILINEAR))


def main() -> None:
    """Measure each layer of each model, and the heads of several joined."""
    parser = argparse.ArgumentParser()
    parser.add_argument("scanners", type=Path)
    parser.add_argument("models", nargs="+")
    arguments = parser.parse_args()
    print_machine()
    tiny = read(arguments.scanners, thumbnail)
    found = {"thumbnail 32 × 32": tiny.frames.images.reshape(len(tiny.frames), -1).astype(np.float32)}
    heads: dict[str, Array] = {}
    for name in arguments.models:
        path = find_model(name)
        embedder = Embedder.load(path)
        images = read(arguments.scanners, embedder.preparation).frames.images
        started = time.perf_counter()
        parts = [embedder.embed(np.asarray(batch), tuple(embedder.layers)).features for batch in batches(images)]
        rate = len(images) / (time.perf_counter() - started)
        print(f"{name}: {rate:,.0f} images/s, decoded before")
        for layer in embedder.layers:
            found[f"{name}, {layer}"] = np.concatenate([part[layer] for part in parts])
        heads |= {f"{name}, {layer}": found[f"{name}, {layer}"] for layer in embedder.heads}
    for one, other in combinations(heads, 2):
        found[f"{one} and {other}, joined"] = np.concatenate([heads[one], heads[other]], axis=1)
    print(f"{'':60} values  nearest hit right        within the modality")
    for name, features in found.items():
        shares = [by_patient(*hits(features, tiny, within_modality=within)) for within in (False, True)]
        print(f"{name:60} {features.shape[1]:6,}  {shares[0]}  {shares[1]}")


if __name__ == "__main__":
    main()
