"""A series of slices as the query: of files, or of the index; some of its slices, evenly along its longest stack."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from index.engines.engine import Searchable, Where
from index.query import Query, find_stored, queries_from_frames, query_from_point
from index.schema import Payload
from model.errors import ImageError, SettingError
from model.images.frames import Frame, Header
from model.images.reading import ReadOptions, read_chosen, read_headers

if TYPE_CHECKING:
    from model.network.embedder import Embedder

SLICES = 16
"""Slices of a query that are compared."""


@dataclass(frozen=True, slots=True)
class SeriesQuery:
    """Slices of one series, in their order.

    Attributes:
        name: what to call it: the UID, or the path where there is none.
        uid: its Series Instance UID, ``None`` of pictures without.
        slices: those that are compared.
        places: of each the place along its stack, 0…1 from its first slice to its last.
        of: slices of the stack.
    """

    name: str
    uid: str | None
    slices: tuple[Query, ...]
    places: tuple[float, ...]
    of: int


class Slice(NamedTuple):
    """A slice by where it can be had, and what its header says."""

    address: str
    frame: int
    header: Header


def series_from_files(
    addresses: Iterable[str],
    embedder: Embedder,
    *,
    layers: Sequence[str] = (),
    slices: int = SLICES,
    patient_key: bytes | None = None,
    left_out: Callable[[ImageError], None] = lambda _: None,
) -> Iterator[SeriesQuery]:
    """Each series that files hold, the longest first; files without a Series Instance UID are one series a folder.

    Only headers are read of the slices that are not compared. Localizers are compared only if there is nothing else.

    Args:
        addresses: of image files, in any order.
        embedder: the model.
        layers: to compare; by default what a new index of the model stores.
        slices: to compare, at most.
        patient_key: key of the index's patient groups, if it has them.
        left_out: told of files that cannot be read, and of slices that cannot be decoded: there are fewer then.

    Raises:
        ImageError: the features of a slice are not finite.
    """
    options = ReadOptions(patient_key)
    found: dict[str, list[Slice]] = defaultdict(list)
    for address in sorted(addresses, key=natural):
        try:
            for number, header in read_headers(address, options):
                found[header.series_instance_uid or address.rpartition("/")[0]].append(Slice(address, number, header))
        except ImageError as error:
            left_out(error)
    for name, every in sorted(found.items(), key=lambda item: (-len(item[1]), item[0])):
        stack = longest_stack(every)
        places = along([one.header.slice_mm for one in stack])
        frames: list[tuple[str, Frame]] = []
        read: list[float] = []
        for address, numbers in groupby(evenly(len(stack), slices), key=lambda place: stack[place].address):
            of_file = list(numbers)
            try:
                found_frames = read_chosen(address, [stack[place].frame for place in of_file], options)
            except ImageError as error:
                left_out(error)
                continue
            frames += [(address, frame) for frame in found_frames]
            read += [places[place] for place in of_file]
        if frames:
            queries = queries_from_frames(frames, embedder, layers=layers)
            yield SeriesQuery(name, stack[0].header.series_instance_uid, tuple(queries), tuple(read), len(stack))


def series_from_index(index: Searchable, uid: str, *, layers: Sequence[str] = (), slices: int = SLICES) -> SeriesQuery:
    """A stored series, by its UID, or by what :func:`index.query.find_stored` takes for one of its pictures.

    Raises:
        SettingError: the index holds no such picture, or it is of no series.
    """
    _, picture = find_stored(index, uid)
    series = picture.header.series_instance_uid
    if series is None:
        raise SettingError(f"the picture {uid} is of no series: search for it without --by series")
    stored = sorted(index.scroll(Where(must={"series_instance_uid": [series]})), key=lambda pair: _in_archive(pair[1]))
    # Of a stored slice its place among them stands for its address.
    every = [Slice(str(number), payload.frame, payload.header) for number, (_, payload) in enumerate(stored)]
    stack = longest_stack(every)
    chosen = evenly(len(stack), slices)
    places = along([one.header.slice_mm for one in stack])
    layers = layers or index.description.default_layers
    queries = (query_from_point(index, uid, *stored[int(stack[place].address)], layers) for place in chosen)
    return SeriesQuery(series, series, tuple(queries), tuple(places[n] for n in chosen), len(stack))


def longest_stack(slices: Sequence[Slice]) -> list[Slice]:
    """The slices of the stack with most of them, along its normal; localizers only if there is nothing else.

    A slice that lies where another one does, as a copy or another phase, is left out.
    """
    stacks: dict[str | None, list[Slice]] = defaultdict(list)
    for one in slices:
        stacks[one.header.stack].append(one)
    best = max(stacks.values(), key=lambda stack: (stack[0].header.localizer is None, len(stack)))
    placed = {one.header.slice_mm: one for one in reversed(best) if one.header.slice_mm is not None}
    return [placed[place] for place in sorted(placed)] if len(placed) > 1 else best


def evenly(count: int, most: int) -> list[int]:
    """At most so many positions among ``count``, each in the middle of its equal part."""
    if count <= most:
        return list(range(count))
    return [int((2 * part + 1) * count / (2 * most)) for part in range(most)]


def along(places_mm: Sequence[float | None]) -> list[float]:
    """Each slice's place, 0…1, by its millimetres; by its number where they are not known."""
    known = [place for place in places_mm if place is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    if len(known) < len(places_mm) or high <= low:
        return [number / max(1, len(places_mm) - 1) for number in range(len(places_mm))]
    return [(place - low) / (high - low) for place in known]


def natural(address: str) -> list[tuple[int, str]]:
    """For an order in which slice 9 comes before slice 10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", address)]


def _in_archive(payload: Payload) -> tuple[list[tuple[int, str]], int]:
    return natural(str(payload.locations[0])), payload.frame
