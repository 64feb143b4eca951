"""One warm model and one open index, for many askers at once."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Final, Generic, Self, TypeVar
from uuid import UUID

from index.answers.words import stored_address
from index.engines.engine import Searchable
from index.filters import as_stored
from index.home.key import KEY_NAME, privacy_key
from index.kept_open import KeptIndex
from index.opening import describe_index, resolve_model
from index.query import Query, find_stored, query_from_stored
from index.schema import Payload
from index.search import Answer, Examples, Options, search
from model.errors import CbmirError, ImageError, IndexLockedError, SettingError, VectorIndexError
from model.images.reading import ReadOptions
from model.network.embedder import Embedder
from workers.serving.batching import BatchingEmbedder
from workers.serving.question import Filters, Question, parse_crop
from workers.serving.reading import Crop, KeptUploads, Readers, Uploads, as_file
from workers.serving.settings import ServingSettings

_KEPT_QUERIES: Final = 512
_KEPT_PICTURE_BYTES: Final = 2**26

FACETS: Final = ("organ", "modality", "body_part_examined", "label", "view")
"""Fields whose values are counted for the page."""

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class NotFoundError(CbmirError):
    """What was asked for by its id is not, or no longer, there."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An answer with what a page or a record needs beside it.

    Attributes:
        answer: the answer.
        notes: sentences about filters that nothing meets.
        roots: of the index.
    """

    answer: Answer
    notes: Sequence[str]
    roots: tuple[str, ...]


class Retrieval:
    """Answers questions; safe to be asked from many threads. Close it, or use it as a context manager.

    Args:
        settings: what to serve.
        uploads: keeps the pictures that are brought; by default in this process.

    Raises:
        CheckpointError, ModelMismatchError: the model of the index is gone or another.
        NotAnIndexError, VectorIndexError: the index cannot be opened.
        SettingError: the runtime or the device cannot be used.
    """

    def __init__(self, settings: ServingSettings, uploads: Uploads | None = None) -> None:
        self.settings = settings
        self.description = describe_index(settings.index)
        self._key = privacy_key(settings.index.home) if self.description.patient_groups else None
        model = resolve_model(settings.index, self.description, settings.model)
        with ExitStack() as opened:
            self._readers = opened.enter_context(Readers())
            self.index = opened.enter_context(KeptIndex(settings.index, "cbmir serve"))
            probe = bool(self.description.probe)
            embedder = Embedder.load(model, device=settings.device, runtime=settings.runtime, probe=probe)
            self._opened = opened.pop_all()
        self._embedder = BatchingEmbedder(embedder)
        self._uploads: Uploads = uploads or KeptUploads(max(2**28, 2 * settings.access.largest_upload))
        self._queries: _Latest[Hashable, Query] = _Latest(_KEPT_QUERIES, lambda _: 1)
        self._pictures: _Latest[Hashable, bytes] = _Latest(_KEPT_PICTURE_BYTES, len)

    @property
    def shows_pictures(self) -> bool:
        """Whether stored pictures may be shown: not where their paths were to stay hidden."""
        return self.description.path_privacy == "plain"

    def keep(self, name: str, data: bytes) -> str:
        """Keep a picture that was brought in memory for a while; its key."""
        key = secrets.token_urlsafe(16)
        self._uploads.keep(key, Path(name).name or "picture", data)
        return key

    def answer(self, question: Question) -> Shown:
        """The answer to a question of the page.

        Raises:
            NotFoundError: a picture that was brought is forgotten, or a stored one is not there.
            ImageError: a picture cannot be read.
            SettingError, ModelMismatchError, VectorIndexError: as :func:`index.search.search`.
        """
        options = self._options(question, of_file=bool(question.upload))
        if question.upload:
            query = self.brought(question, options.layers)
            more = question.like
        else:
            query = self._stored_query(question.like[0], options.layers, question.frame or None, question.crop)
            more = question.like[1:]
        examples = Examples(
            [self._stored_query(uid, options.layers) for uid in more],
            [self._stored_query(uid, options.layers) for uid in question.less],
        )
        return self._search(query, question, options, examples)

    def answer_picture(self, name: str, data: bytes, filters: Filters, frame: int, crop: str) -> Shown:
        """The answer to a picture that is asked with once, of which nothing is kept.

        Raises:
            ImageError: it cannot be read.
            SettingError, ModelMismatchError, VectorIndexError: as :func:`index.search.search`.
        """
        options = self._options(filters, of_file=True)
        return self._search(self._embed(name, data, options.layers, frame, crop), filters, options, Examples())

    def _options(self, filters: Filters, *, of_file: bool) -> Options:
        options = filters.options(self.description)
        if of_file and options.exclude_same == "patient" and self._key is None:
            home = self.settings.index.home
            raise SettingError(
                f"{home} has not its {KEY_NAME}, so the patient of a file cannot be told: ask with an id"
            )
        return options

    def brought(self, question: Question, layers: Sequence[str]) -> Query:
        """The chosen one of the pictures that were brought, as a query.

        Raises:
            NotFoundError: it is forgotten.
            ImageError: it cannot be read.
        """
        key = question.chosen
        name, data = self.upload(key)
        kept = (key, question.frame, question.crop, tuple(layers))
        return self._queries.get(kept, lambda: self._embed(name, data, layers, question.frame or 1, question.crop))

    def upload(self, key: str) -> tuple[str, bytes]:
        """Name and bytes of a picture that was brought.

        Raises:
            NotFoundError: it is forgotten.
        """
        if found := self._uploads.get(key):
            return found
        raise NotFoundError("this picture was brought a while ago and is not kept any more: bring it again")

    def upload_picture(self, key: str, frame: int, side: int, crop: str) -> bytes:
        """A picture that was brought, as a JPEG.

        Raises:
            NotFoundError: it is forgotten.
            ImageError: it cannot be read.
        """
        name, data = self.upload(key)
        with _named(name, data) as file:
            return self._readers.picture(file, frame, side, _crop(crop))

    def point(self, uid: str, frame: int | None = None) -> tuple[UUID, Payload]:
        """A stored picture, by its id, the first digits of it, or a UID.

        Raises:
            NotFoundError: the index holds none.
        """
        try:
            return self.index.ask(lambda index: find_stored(index, uid, frame))
        except SettingError as error:
            raise NotFoundError(str(error)) from error

    def point_picture(self, uid: str, side: int, crop: str = "") -> bytes:
        """A stored picture, read from where it lies below the roots of the index, as a JPEG.

        Raises:
            NotFoundError: the index holds none, or shows none.
            ImageError: the file is gone or cannot be read.
        """
        if not self.shows_pictures:
            raise NotFoundError("this index keeps where its pictures lie to itself (--path-privacy hash)")
        point, payload = self.point(uid)
        return self._pictures.get((point, side, crop), lambda: self._drawn(payload, side, crop))

    def facets(self) -> dict[str, dict[str, int]]:
        """How many pictures have each value of the fields to filter by; fields without values are left out."""
        counts = self.index.ask(lambda index: {name: _facet(index, name) for name in FACETS})
        return {name: values for name, values in counts.items() if values}

    def close(self) -> None:
        """Let go of everything, once what was asked is answered."""
        self._readers.close()
        self._embedder.close()
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _search(self, query: Query, filters: Filters, options: Options, examples: Examples) -> Shown:
        def ask(index: Searchable) -> Shown:
            stored, notes = as_stored(index, options.where)
            known = index.retrieve([query.id]).get(query.id)
            asked = replace(query, label=known.label if known else None)
            answer = search(index, asked, replace(options, where=stored), examples)
            if filters.within is not None and answer.measure == "distance":
                answer = replace(answer, hits=tuple(hit for hit in answer.hits if hit.score <= filters.within))
            highest = max((place.root for hit in answer.hits for place in hit.payload.locations), default=0)
            return Shown(answer, notes, self.index.roots(highest))

        return self.index.ask(ask)

    def _embed(self, name: str, data: bytes, layers: Sequence[str], frame: int, crop: str) -> Query:
        with _named(name, data) as file:
            read = self._readers.frame(file, frame, ReadOptions(self._key), _crop(crop))
            return self._embedder.query(name, read, layers)

    def _stored_query(self, uid: str, layers: Sequence[str], frame: int | None = None, crop: str = "") -> Query:
        try:
            if not crop:
                return self.index.ask(partial(query_from_stored, uid=uid, layers=layers, frame=frame))
        except SettingError as error:
            raise NotFoundError(str(error)) from error
        point, payload = self.point(uid, frame)
        if not self.shows_pictures:
            raise NotFoundError("of this index no part of a picture can be asked with (--path-privacy hash)")

        def embed() -> Query:
            read = self._readers.frame(self._address(payload), payload.frame, ReadOptions(self._key), _crop(crop))
            # Its own picture is no answer to a part of it.
            return replace(self._embedder.query(uid, read, layers), id=point)

        return self._queries.get((point, crop, tuple(layers)), embed)

    def _drawn(self, payload: Payload, side: int, crop: str) -> bytes:
        return self._readers.picture(self._address(payload), payload.frame, side, _crop(crop))

    def _address(self, payload: Payload) -> str:
        place = payload.locations[0]
        return stored_address(self.index.roots(place.root), place)


@contextmanager
def _named(name: str, data: bytes) -> Iterator[str]:
    """Bytes as a file for a moment; errors about it name the picture as its owner does."""
    with as_file(data) as file:
        try:
            yield file
        except ImageError as error:
            raise ImageError(name, error.reason, error.detail.replace(file, name)) from error


def _crop(text: str) -> Crop | None:
    try:
        return parse_crop(text) if text else None
    except ValueError as error:
        raise SettingError(str(error)) from error


def _facet(index: Searchable, name: str) -> dict[str, int]:
    try:
        return index.facet(name)
    except IndexLockedError:
        raise
    except VectorIndexError:  # an index of an earlier version cannot count every field: see 'cbmir upgrade'
        return {}


class _Latest(Generic[Key, Value]):
    """What was made last, by what it was made of.

    Args:
        most: weight of all together.
        weigh: gives that of one.
    """

    def __init__(self, most: int, weigh: Callable[[Value], int]) -> None:
        self._most, self._weigh, self._weight = most, weigh, 0
        self._kept, self._lock = OrderedDict[Key, Value](), Lock()

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """What is kept under a key, or is made now; two who ask at once may both make it."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        value = make()
        with self._lock:
            if key not in self._kept:
                self._kept[key] = value
                self._weight += self._weigh(value)
            while self._weight > self._most:
                self._weight -= self._weigh(self._kept.popitem(last=False)[1])
        return value
