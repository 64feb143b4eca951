"""Plots as SVG: precision-recall curves (the paper's Figs. 7 and 8), curves over ranks, and calibration."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from index.evaluation.measures import RECALL_LEVELS
from index.evaluation.retrieval import RetrievalResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {"fcl1": "#1e5ac8", "fcl2": "#d62828", "fcl3": "#2a9d5c"}
_BINS = 10

Place = Literal["lower left", "center left"]


def precision_recall(results: Sequence[RetrievalResult], title: str) -> str:
    """Interpolated precision over recall, a line a layer, as SVG."""

    def draw(axes: Axes) -> None:
        for result in results:
            levels = np.linspace(0, 1, RECALL_LEVELS)
            axes.plot(levels, result.curves.interpolated, **_style(result))
        axes.set(xlabel="recall", ylabel="interpolated precision", xlim=(0, 1), ylim=(0, 1.02), title=title)

    return _svg(draw)


def precision_by_rank(results: Sequence[RetrievalResult], title: str) -> str:
    """Precision (solid) and recall (dashed) over the rank, a colour a layer, as SVG."""

    def draw(axes: Axes) -> None:
        for result in results:
            ranks = np.arange(1, len(result.curves.precision) + 1)
            axes.plot(ranks, result.curves.precision, **{**_style(result), "label": result.setting.layer.upper()})
            axes.plot(ranks, result.curves.recall, "--", color=_COLOURS.get(result.setting.layer), linewidth=1.4)
        axes.set(xlabel="rank", ylabel="precision · recall (dashed)", ylim=(0, 1.02), title=title, xscale="log")

    return _svg(draw, legend="center left")


def calibration(confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> str:
    """Accuracy over confidence in ten bins, with the number of images in each, as SVG."""
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    used = np.unique(bins)

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1)
        places = [float(confidence[bins == b].mean()) for b in used]
        shares = [float(right[bins == b].mean()) for b in used]
        axes.plot(places, shares, "o-", color=_COLOURS["fcl1"])
        for b, place, share in zip(used, places, shares, strict=True):
            axes.annotate(f"{int((bins == b).sum()):,}", (place, share), (4, -12), textcoords="offset points", size=8)
        axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.05), ylim=(0, 1.05), title="calibration")

    return _svg(draw, legend=None)


def _style(result: RetrievalResult) -> dict[str, Any]:
    layer = result.setting.layer
    label = f"{layer.upper()}, mAP {result.mean_average_precision:.3f}"
    return {"label": label, "color": _COLOURS.get(layer), "linewidth": 1.8}


def _svg(draw: Callable[[Axes], None], *, legend: Place | None = "lower left") -> str:
    """One plot, without the machine's clock or fonts in it: equal data make equal files."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "cbmir", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10}):
        figure = Figure(figsize=(5.2, 3.9), layout="constrained")
        axes = figure.subplots()
        draw(axes)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if legend:
            axes.legend(frameon=False, loc=legend)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
