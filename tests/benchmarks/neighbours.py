"""Nearest neighbours: time and recall, with and without the organ filter."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import numpy as np

from index.address import parse_address
from index.engines.engine import Index, Where
from index.opening import open_index
from index.schema import Payload
from tests.benchmarks.figures import Figure

QUERIES = 300
TOP = 10


def run(*indexes: Path) -> list[Figure]:
    """Of each index, with stored pictures as the queries."""
    figures = []
    for folder in indexes:
        with open_index(parse_address(folder), purpose="benchmark") as index:
            points = list(index.scroll())
            chosen = np.random.default_rng(0).choice(len(points), QUERIES, replace=False)
            figures += measure(index, [points[number] for number in chosen], goal=0.99)
    return figures


def measure(index: Index, queries: Sequence[tuple[UUID, Payload]], *, goal: float) -> list[Figure]:
    """Approximate over exact search; each query leaves itself out, as a search does.

    The exact searches are done first and apart: one reads every vector, and would empty the processor's caches before
    each approximate one.
    """
    figures = []
    vectors = [index.vector(point, "fcl1") for point, _ in queries]
    for filtered in (False, True):
        times: dict[bool, list[float]] = {True: [], False: []}
        ids: dict[bool, list[set[UUID]]] = {True: [], False: []}
        for exact in (True, False):
            for (point, payload), vector in zip(queries, vectors, strict=True):
                where = Where(must={"organ": [str(payload.organ)]} if filtered else {}, exclude_ids=[point])
                started = time.perf_counter()
                hits = index.nearest(vector, "fcl1", top=TOP, where=where, exact=exact)
                times[exact].append(time.perf_counter() - started)
                ids[exact].append({hit.id for hit in hits})
        found = sum(len(true & near) / max(1, len(true)) for true, near in zip(ids[True], ids[False], strict=True))
        (p50, p95), exact_p50 = np.percentile(times[False], [50, 95]) * 1e3, float(np.median(times[True])) * 1e3
        name = f"nearest {TOP} of {index.count():,}" + (", in the organ" if filtered else "")
        text = f"p50 {p50:.2f}, p95 {p95:.2f} ms"
        figures.append(Figure(name, text, f"exact {exact_p50:.2f} ms", p50 / exact_p50, "p50 < 5 ms"))
        recall = found / len(queries)
        figures.append(Figure("  recall@10", f"{recall:.4f}", "exact search", recall, f">= {goal}"))
    return figures
