"""Nearest neighbours: time and recall at two sizes, with and without the organ filter."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from index.interface import Where
from index.opening import open_index
from tests.benchmarks.figures import Figure

QUERIES = 300
TOP = 10


def run(*indexes: Path) -> list[Figure]:
    """Stored pictures are the queries, each leaving itself out, as a search does."""
    figures = []
    for folder in indexes:
        with open_index(folder, purpose="benchmark") as index:
            points = list(index.scroll())
            chosen = np.random.default_rng(0).choice(len(points), QUERIES, replace=False)
            for filtered in (False, True):
                times: dict[bool, list[float]] = {True: [], False: []}
                found = 0.0
                for number in chosen:
                    point, payload = points[number]
                    vector = index.vector(point, "fcl1")
                    where = Where(must={"organ": [payload.organ]} if filtered else {}, exclude_ids=[point])
                    ids = {}
                    for exact in (True, False):
                        started = time.perf_counter()
                        hits = index.nearest(vector, "fcl1", top=TOP, where=where, exact=exact)
                        times[exact].append(time.perf_counter() - started)
                        ids[exact] = {hit.id for hit in hits}
                    found += len(ids[True] & ids[False]) / max(1, len(ids[True]))
                p50, exact_p50 = (float(np.median(times[exact])) * 1e3 for exact in (False, True))
                name = f"nearest {TOP} of {len(points):,}" + (", in the organ" if filtered else "")
                figures.append(
                    Figure(name, f"p50 {p50:.2f} ms", f"exact {exact_p50:.2f} ms", p50 / exact_p50, "p50 < 5 ms")
                )
                recall = found / QUERIES
                figures.append(Figure("  recall@10", f"{recall:.4f}", "exact search", recall, ">= 0.99"))
    return figures
