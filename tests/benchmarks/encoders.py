"""How well layers, heads and encoders retrieve, by group: thumbnails and an untrained network beside them.

``python -m tests.benchmarks.encoders MANIFEST MODEL [MODEL ...]``, such as ``../shared/data/scanners/manifest.csv
bundled lite0``. A neighbour is right if it shows the query's region in the query's modality, or of a manifest without
regions, if it has the query's label. The query's own group (its patient) is left out of the answer, a query of which no
other group has the like is not counted, and of a manifest with splits only the test part asks. P@1 and P@5 are shares
of right ones among the first hits, mAP is over all relevant images; each in the whole set, and within the query's
modality. Intervals are of 1,000 resamples of groups.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from index.engines.engine import RANK_FUSION
from index.evaluation.comparison import over_groups
from index.evaluation.measures import average_precision
from model.images.frames import Frame
from model.network.bundled import find_model
from model.network.embedder import Embedder
from model.network.heads import default_layers
from model.network.preprocessing import batches
from model.training.loading import LabelledFrames, Prepare, load_repository
from model.training.repository import LabelledFile
from tests.benchmarks.figures import print_machine
from tests.support.models import make_model

Array = NDArray[np.float32]

Score = Callable[[slice], NDArray[np.float64]]
"""How near each image is to some queries, ``(queries, images)``, greatest first."""

QUERIES = 256


@dataclass(frozen=True, slots=True)
class Images:
    """Frames with what they show, in which modality, of whom, and the positions of those that ask."""

    frames: LabelledFrames
    shown: NDArray[np.object_]
    modality: NDArray[np.object_]
    group: NDArray[np.int64]
    queries: NDArray[np.int64]


def read(manifest: Path, prepare: Prepare) -> Images:
    """A manifest's frames, prepared for a model."""
    table = pd.read_csv(manifest, dtype=str).fillna("")
    files = [LabelledFile(manifest.parent / path, "any", path, "train") for path in table["path"]]
    frames = load_repository(files, ["any"], workers=2, prepare=prepare)[0]["train"]
    rows = table.iloc[frames.files]
    shown = rows["region"] + " " + rows["modality"] if "region" in rows else rows["label"]
    asking = (rows["split"] == "test").to_numpy() if "split" in rows else np.ones(len(rows), bool)
    groups = np.unique(rows["group"].to_numpy(str), return_inverse=True)[1]
    modality = rows["modality"].to_numpy(object)
    return Images(frames, shown.to_numpy(object), modality, groups, np.flatnonzero(asking))


def by_distance(features: Array, images: Images) -> Score:
    """By Euclidean distance."""
    values = features.astype(np.float64)
    squares = (values**2).sum(1)
    return lambda part: 2 * values[images.queries[part]] @ values.T - squares[None]


def by_fused_ranks(scores: Sequence[Score], images: Images, *, within_modality: bool) -> Score:
    """By the sum of the reciprocal ranks among what may be found."""

    def score(part: slice) -> NDArray[np.float64]:
        total = np.zeros((len(images.queries[part]), len(images.group)))
        for one in scores:
            found = np.where(_allowed(images, part, within_modality=within_modality), one(part), -np.inf)
            total += 1.0 / (RANK_FUSION + (-found).argsort(1, kind="stable").argsort(1, kind="stable"))
        return total

    return score


def row(score: Score, images: Images, *, within_modality: bool) -> str:
    """P@1 with its interval, P@5 and mAP."""
    first, five, averages, groups = [], [], [], []
    for start in range(0, len(images.queries), QUERIES):
        part = slice(start, start + QUERIES)
        allowed = _allowed(images, part, within_modality=within_modality)
        places = images.queries[part]
        for place, near, may in zip(places, np.where(allowed, score(part), -np.inf), allowed, strict=True):
            relevant = (images.shown == images.shown[place]) & (images.group != images.group[place])
            if not relevant.any():
                continue
            hits = relevant[np.argsort(-near, kind="stable")[: may.sum()]]
            first.append(float(hits[0]))
            five.append(hits[:5].sum() / 5)
            averages.append(average_precision(hits, int(relevant.sum())))
            groups.append(images.group[place])
    interval = over_groups(np.array(first), np.array(groups))
    span = f"[{interval.low:.3f}, {interval.high:.3f}]" if interval else ""
    return f"{np.mean(first):.3f} {span:14}  {np.mean(five):.3f}  {np.mean(averages):.3f} of {len(first):,}"


def _allowed(images: Images, part: slice, *, within_modality: bool) -> NDArray[np.bool_]:
    """Which images may be found, by query."""
    places = images.queries[part]
    allowed = images.group[places, None] != images.group[None]
    if within_modality:
        allowed &= images.modality[places, None] == images.modality[None]
    return np.asarray(allowed)


def thumbnail(frame: Frame) -> NDArray[np.uint8]:
    """32 × 32 grey pixels: what any network has to surpass."""
    from PIL import Image

    return np.asarray(Image.fromarray(frame.pixels).resize((32, 32), Image.Resampling.BILINEAR))


def main() -> None:
    """Measure each layer of each model, and the ranks of one layer each fused."""
    parser = argparse.ArgumentParser()
    parser.add_argument("manifest", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--runtime", default="torch")
    arguments = parser.parse_args()
    print_machine()
    images = read(arguments.manifest, thumbnail)
    found = {"thumbnail 32 × 32": images.frames.images.reshape(len(images.frames), -1).astype(np.float32)}
    chosen: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        untrained = make_model(Path(folder, "untrained.safetensors"), seed=0, width=4096)
        for path in (untrained, *map(find_model, arguments.models)):
            embedder = Embedder.load(path, runtime="torch" if path.is_dir() else arguments.runtime)
            layers = ("fcl1",) if path == untrained else tuple(embedder.layers)
            inputs = read(arguments.manifest, embedder.preparation).frames.images
            started = time.perf_counter()
            parts = [embedder.embed(np.asarray(batch), layers).features for batch in batches(inputs)]
            print(f"{path.stem}: {len(inputs) / (time.perf_counter() - started):,.0f} images/s, decoded before")
            for layer in layers:
                found[f"{path.stem}, {layer}"] = np.concatenate([part[layer] for part in parts])
            if path != untrained:
                chosen += [f"{path.stem}, {layer}" for layer in default_layers(path)]
    scores = {name: by_distance(features, images) for name, features in found.items()}
    print(f"{'':36} values  P@1 [95 %]            P@5    mAP")
    for within in (False, True):
        print("within the query's modality" if within else "in the whole set")
        shown = {name: (scores[name], f"{found[name].shape[1]:6,}") for name in scores}
        if len(chosen) > 1:
            fused = by_fused_ranks([scores[name] for name in chosen], images, within_modality=within)
            shown[f"ranks of {len(chosen)} fused"] = fused, f"{sum(found[name].shape[1] for name in chosen):6,}"
            joined = np.concatenate([found[name] for name in chosen], axis=1)
            shown[f"vectors of {len(chosen)} joined"] = by_distance(joined, images), f"{joined.shape[1]:6,}"
        for name, (score, values) in shown.items():
            print(f"{name:36} {values}  {row(score, images, within_modality=within)}", flush=True)


if __name__ == "__main__":
    main()
