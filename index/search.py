"""Nearest neighbours of a query, with or without class prediction (paper sections 3.2 and 4.3)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal
from uuid import UUID

from index.engines.engine import RANK_FUSION, Hit, Searchable, Where, fusion_depth
from index.filters import check_fields
from index.query import Query
from index.schema import Description
from model.errors import ModelMismatchError, SettingError
from model.modalities import modality_group
from model.network.calibration import UNKNOWN
from model.network.layers import LAYERS
from model.suggestions import unknown_name

Same = Literal["self", "series", "study", "patient", "none"]
"""What is left out of an answer: the query's own point, all of its series, study or patient group, or nothing."""

GroupBy = Literal["none", "series", "study", "patient"]
"""Of each series, study or patient group only the nearest hit is kept."""

Measure = Literal["distance", "dot product", "rank score", "recommendation score"]
"""What hits are ranked by: Euclidean distance, least first; a layer's dot product, fused ranks, or how much better the
examples of what is meant fit than those of what is not, greatest first."""

_FIRST_OVERFETCH = 4

_Nearest = Callable[[Where, int], list[Hit]]
"""Takes a filter and how many hits are wanted."""

_GROUPS = {"series": "series_instance_uid", "study": "study_instance_uid", "patient": "patient_group"}


@dataclass(frozen=True, slots=True)
class Options:
    """How to search.

    Attributes:
        top: number of hits wanted.
        layers: whose features are compared, by default those of the description; of several the ranks are fused
            (:meth:`index.engines.engine.Searchable.fused`).
        organs: only hits of these predicted classes; ``None`` is the class predicted for the query ("with class
            prediction"), or the whole index where that is unknown, or has nothing to find; an empty tuple the whole
            index ("without").
        where: keyword field → values; all fields must agree.
        any_modality: look also among pictures of other kinds than the query's header says
            (:func:`model.modalities.modality_group`); as where the index has no others of that kind, or ``where``
            names some.
        exclude_same: see :data:`Same`.
        group_by: see :data:`GroupBy`.
        exact: compare with every original vector instead of walking the graph.
    """

    top: int = 10
    layers: tuple[str, ...] = ()
    organs: tuple[str, ...] | None = None
    where: Mapping[str, Collection[str]] = field(default_factory=dict)
    any_modality: bool = False
    exclude_same: Same = "self"
    group_by: GroupBy = "none"
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found for one query.

    Attributes:
        query: the query.
        organs: classes to which the hits were restricted; empty for the whole index.
        modalities: those to which the hits were restricted; empty for all.
        layers: whose features were compared.
        measure: what the hits' scores are.
        hits: best first.
        class_is_empty: nothing was found in the class predicted for the query, and the whole index was searched.
    """

    query: Query
    organs: tuple[str, ...]
    modalities: tuple[str, ...]
    layers: tuple[str, ...]
    measure: Measure
    hits: tuple[Hit, ...]
    class_is_empty: bool = False

    @property
    def searched(self) -> str:
        """Where the hits were looked for, in words."""
        where = f"class {', '.join(self.organs)}" if self.organs else "the whole index"
        if self.class_is_empty:
            where += f" (nothing was found in class {self.query.organ})"
        if self.modalities:
            also = " and alike" if len(self.modalities) > 1 else ""
            where += f", modality {self.query.header.modality}{also}"
        return where


def check_options(description: Description, options: Options) -> None:
    """Refuse options that this index cannot answer.

    Raises:
        ModelMismatchError: the index does not store one of the paper's layers that is asked for.
        SettingError: a layer, an organ or a field is unknown, the index stores no patient groups, or the number of hits
            is not positive.
    """
    for layer in options.layers:
        if layer in description.layers:
            continue
        if layer not in LAYERS:
            raise SettingError(f"--layer {layer}: {unknown_name('layer', layer, description.layers)}")
        raise ModelMismatchError(
            f"the index stores {', '.join(description.layers)}, not {layer}: make it anew with "
            f"'cbmir index --reembed --layers {','.join((*description.layers, layer))}'"
        )
    if options.organs and not description.classes:
        raise SettingError("--organ: the model of this index tells no classes apart: filter by --where label= instead")
    for organ in options.organs or ():
        if organ not in (*description.classes, UNKNOWN):
            known = (*description.classes, UNKNOWN)
            raise SettingError(f"--organ {organ}: {unknown_name('organ', organ, known)}")
    check_fields(options.where)
    if "patient" in (options.exclude_same, options.group_by) and not description.patient_groups:
        anew = "'cbmir index --reembed --keep-patient-group'"
        raise SettingError(f"the index knows no patient groups: make it anew with {anew}")
    if options.top < 1:
        raise SettingError(f"--top {options.top} asks for nothing: give at least 1")


@dataclass(frozen=True, slots=True)
class Examples:
    """Further pictures that say what is meant, and such that say what is not."""

    more: Sequence[Query] = ()
    less: Sequence[Query] = ()

    def __bool__(self) -> bool:
        return bool(self.more or self.less)


def search(index: Searchable, query: Query, options: Options = Options(), examples: Examples = Examples()) -> Answer:
    """The nearest neighbours of ``query`` in ``index``, or what is like it and like some examples, and unlike others.

    Raises:
        ModelMismatchError, SettingError: as :func:`check_options`.
        VectorIndexError: the engine refused.
    """
    options = replace(options, layers=options.layers or index.description.default_layers)
    check_options(index.description, options)
    predicted = () if query.organ in (None, UNKNOWN) else (query.organ,)
    organs = predicted if options.organs is None else options.organs
    must = dict(options.where)
    if organs:
        asked = must.get("organ")
        must["organ"] = organs if asked is None else tuple(organ for organ in organs if organ in asked)
    modalities = () if options.any_modality or "modality" in must else modality_group(query.header.modality)
    must_not, excluded = _same(query, options.exclude_same)
    if options.exclude_same != "none":
        excluded |= {example.id for example in (*examples.more, *examples.less)}
    nearest = (
        partial(_recommended, index, query, examples, options) if examples else partial(_nearest, index, query, options)
    )
    hits: list[Hit] = []
    if modalities:
        hits = _found(nearest, options, Where({**must, "modality": modalities}, must_not, excluded))
        others = Where({"modality": modalities}, exclude_ids=excluded)
        if not hits and not index.count(others):  # as in an archive of JPEG files, whose headers say nothing
            modalities = ()
    if not modalities:
        hits = _found(nearest, options, Where(must, must_not, excluded))
    ranked_by = measure(index.description, options.layers)
    if examples and ranked_by != "rank score":
        ranked_by = "recommendation score"
    if not hits and predicted and options.organs is None and "organ" not in options.where:
        whole = search(index, query, replace(options, organs=()), examples)
        return replace(whole, class_is_empty=bool(whole.hits))
    return Answer(query, organs, modalities, options.layers, ranked_by, tuple(hits))


def measure(description: Description, layers: Sequence[str]) -> Measure:
    """What a search by these layers ranks by."""
    if len(layers) > 1:
        return "rank score"
    return "dot product" if layers[0] in description.dot_layers else "distance"


def _found(nearest: _Nearest, options: Options, where: Where) -> list[Hit]:
    return nearest(where, options.top) if options.group_by == "none" else _grouped(nearest, options, where)


def _nearest(index: Searchable, query: Query, options: Options, where: Where, top: int) -> list[Hit]:
    vectors = {layer: query.features[layer] for layer in options.layers}
    if len(vectors) > 1:
        return index.fused(vectors, top=top, where=where, exact=options.exact)
    layer, vector = next(iter(vectors.items()))
    return index.nearest(vector, layer, top=top, where=where, exact=options.exact)


def _recommended(
    index: Searchable, query: Query, examples: Examples, options: Options, where: Where, top: int
) -> list[Hit]:
    """What is like the query and some examples, and unlike others; the ranks of several layers are fused as ever."""
    depth = top if len(options.layers) == 1 else fusion_depth(top)
    found: dict[UUID, Hit] = {}
    scores: dict[UUID, float] = {}
    for layer in options.layers:
        more = [example.features[layer] for example in (query, *examples.more)]
        less = [example.features[layer] for example in examples.less]
        hits = index.recommended(more, less, layer, top=depth, where=where, exact=options.exact)
        if len(options.layers) == 1:
            return hits
        for rank, hit in enumerate(hits, 1):
            found[hit.id] = hit
            scores[hit.id] = scores.get(hit.id, 0.0) + 1 / (RANK_FUSION + rank)
    best = sorted(scores, key=lambda point: (-scores[point], point))[:top]
    return [replace(found[point], score=scores[point]) for point in best]


def _same(query: Query, same: Same) -> tuple[dict[str, list[str]], frozenset[UUID]]:
    if same == "none":
        return {}, frozenset()
    if same == "self":
        return {}, frozenset({query.id})
    value = getattr(query.header, _GROUPS[same])
    return ({_GROUPS[same]: [value]} if value else {}), frozenset({query.id})


def _grouped(nearest: _Nearest, options: Options, where: Where) -> list[Hit]:
    """The nearest hit of each series or study: ask for ever more neighbours until enough groups are among them."""
    limit = options.top * _FIRST_OVERFETCH
    while True:
        hits = nearest(where, limit)
        best: dict[str, Hit] = {}
        for hit in hits:
            # A picture without one is a group of its own.
            group = getattr(hit.payload.header, _GROUPS[options.group_by]) or str(hit.id)
            best.setdefault(group, hit)
        if len(best) >= options.top or len(hits) < limit:
            return list(best.values())[: options.top]
        limit *= 4
