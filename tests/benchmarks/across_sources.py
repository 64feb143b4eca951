"""How a head retrieves on sources that it was not fitted on: each part of one repository by a head fitted without it.

``python -m tests.benchmarks.across_sources COMBINED MODEL [MODEL ...] --measured FOLDER [--dimensions 256]
[--tune 700]``, where COMBINED is a manifest of several repositories (``cbmir dataset combine``) and FOLDER the one
whose frames are asked for. With ``--tune`` the models, encoders that torch runs, are tuned by so many updates in place
of a head that is fitted, half an hour a part. FOLDER's sources are shared among three parts; a head is fitted on all
else, the test part of COMBINED left out. A hit is right if it has the query's label; hits are frames of FOLDER but
those of the query's group, and a query of which no other group has the like is not counted. In brackets the mean over
groups.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from model.network import joined
from model.network.bundled import find_model
from model.network.embedder import Embedder
from model.network.heads import DEFAULT_NAME, of_length_one
from model.network.runtimes import AUTO, choose_runtime
from model.training.evaluation import predict
from model.training.loading import load_repository
from model.training.projection import fit_projection
from model.training.repository import LabelledFile
from model.training.tuning import tune_encoder
from tests.benchmarks.figures import print_machine

PARTS = 3

Array = NDArray[np.float32]


def features_of(model: Path, files: list[LabelledFile], layer: str = "") -> tuple[Array, NDArray[np.int64]]:
    """Features of a layer, each of length one, and whose they are: of the first, or of all of a joined model's."""
    metadata = Embedder.load(model, probe=False).metadata
    embedder = Embedder.load(model, runtime=choose_runtime(AUTO, metadata), probe=False)
    layer = layer or (joined.LAYER if metadata.members else next(iter(embedder.layers)))
    frames = load_repository(files, ["any"], workers=2, prepare=embedder.preparation)[0]["train"]
    return of_length_one(predict(embedder, frames, (layer,)).features[layer]), frames.files


def parts_of(sources: NDArray[np.object_]) -> NDArray[np.int64]:
    """The part of each source's frames, the largest sources first, each to the part that is smallest so far."""
    sizes, part = [0] * PARTS, {}
    for source, size in sorted(Counter(sources.tolist()).items(), key=lambda one: (-one[1], one[0])):
        part[source] = int(np.argmin(sizes))
        sizes[part[source]] += size
    return np.array([part[source] for source in sources], np.int64)


def right_hits(vectors: Array, labels: NDArray[np.int64], groups: NDArray[np.object_]) -> NDArray[np.float64]:
    """``(n,)`` whether the nearest frame of another group has the label; NaN where no other group has it."""
    likeness = vectors @ vectors.T
    likeness[groups[:, None] == groups[None]] = -np.inf
    alike = labels[:, None] == labels[None]
    right = alike[np.arange(len(labels)), likeness.argmax(1)].astype(np.float64)
    return np.where((alike & np.isfinite(likeness)).any(1), right, np.nan)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("combined", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--measured", type=Path, required=True)
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--tune", type=int, metavar="UPDATES")
    arguments = parser.parse_args()
    table = pd.read_csv(arguments.combined, dtype=str).fillna("")
    if "split" in table:
        table = table.loc[table["split"] != "test"].reset_index(drop=True)
    paths = [(arguments.combined.parent / path).resolve() for path in table["path"]]
    files = [LabelledFile(path, "any", str(path), "train") for path in paths]
    print_machine()
    for model in arguments.models:
        features, of_file = features_of(find_model(model), files)
        rows = table.iloc[of_file]
        labels = pd.factorize(rows["label"])[0]
        groups, sources = rows["group"].to_numpy(), rows["source"].to_numpy()
        asked = np.array([paths[file].is_relative_to(arguments.measured.resolve()) for file in of_file])
        part = parts_of(sources[asked])
        right = {"as it is": right_hits(features[asked], labels[asked], groups[asked])}
        how = "tuned to" if arguments.tune else "head of"
        behind = right[f"{how} {arguments.dimensions}"] = np.empty(asked.sum())
        for number in range(PARTS):
            fitted = ~np.isin(sources, np.unique(sources[asked][part == number]))
            if arguments.tune:
                chosen = [
                    replace(files[file], label=row.label, group=row.group, source=row.source)
                    for file, row in zip(of_file[fitted], rows[fitted].itertuples(), strict=True)
                ]
                with tempfile.TemporaryDirectory(prefix="cbmir-bench-") as work:
                    tuned, values = Path(work, "tuned"), arguments.dimensions
                    tune_encoder(find_model(model), chosen, tuned, updates=arguments.tune, dimensions=values, workers=2)
                    mapped = features_of(tuned, [files[file] for file in of_file[asked]], DEFAULT_NAME)[0]
            else:
                mean, matrix = fit_projection(features[fitted], labels[fitted], arguments.dimensions)
                mapped = of_length_one((features[asked] - mean) @ matrix)
            behind[part == number] = right_hits(mapped, labels[asked], groups[asked])[part == number]
        for name, shares in right.items():
            counted = ~np.isnan(shares)
            by_group = pd.Series(shares[counted]).groupby(groups[asked][counted]).mean()
            print(f"{model}, {name}: {shares[counted].mean():.3f} ({by_group.mean():.3f}) of {counted.sum():,} queries")


if __name__ == "__main__":
    main()
