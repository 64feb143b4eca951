"""The attribution that the licences of a dataset's images ask for."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow.parquet as pq

from model.dataset.catalogue import catalogue_file
from model.errors import DatasetError

if TYPE_CHECKING:
    import pandas as pd

ATTRIBUTION: Final = "ATTRIBUTION.md"


def attribution(table: pd.DataFrame) -> str:
    """Markdown with every source's citation, licence and number of images.

    Args:
        table: a manifest or a lock file (a row an image), or a plan (with ``slices`` a row).

    Raises:
        DatasetError: the table says nothing of DOIs and licences, or the archive's index is not installed.
    """
    if not {"doi", "licence"} <= set(table.columns):
        raise DatasetError("there are no columns doi and licence: give a folder or a plan of 'cbmir dataset'")
    counts = table.assign(images=table["slices"].astype(int) if "fractions" in table else 1)
    sources = counts.groupby(["doi", "licence"])["images"].sum().reset_index()
    citations = _citations()
    lines = ["# Attribution", ""]
    own = 0
    for doi, licence, images in zip(sources["doi"], sources["licence"], sources["images"].astype(int), strict=True):
        if not doi and not licence:
            own += int(images)
            continue
        text = citations.get(doi.lower(), f"https://doi.org/{doi}") if doi else "Source without a DOI."
        lines += [f"- {text}  ", f"  {int(images):,} images, {licence}."]
    if lines[2:]:
        lines += ["", _ARCHIVE]
    if own:
        lines += ["", f"{own:,} images were added by hand: their sources are not known here."]
    return "\n".join(lines) + "\n"


_ARCHIVE: Final = (
    "The images come from the NCI Imaging Data Commons: Fedorov, A. et al. National Cancer Institute Imaging Data "
    "Commons: Toward Transparency, Reproducibility, and Scalability in Imaging Artificial Intelligence. RadioGraphics "
    "43.12 (2023). https://doi.org/10.1148/rg.230180"
)


def write_attribution(text: str, path: Path) -> None:
    """Write what :func:`attribution` gave.

    Raises:
        DatasetError: the file cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DatasetError(f"{path} cannot be written: {error.strerror or error}") from error


def _citations() -> dict[str, str]:
    collections = pq.read_table(catalogue_file("collections_index.parquet"), columns=["sources"]).to_pylist()
    sources: list[Mapping[str, Any]] = [source for one in collections for source in one["sources"] or ()]
    return {
        str(source["source_doi"]).lower(): _plain(source["citation"])
        for source in sources
        if source.get("source_doi") and source.get("citation")
    }


def _plain(citation: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", citation)).split())
