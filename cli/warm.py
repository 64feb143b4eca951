"""What a terminal session keeps between its commands: models and open indexes; a single command keeps nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from index.address import Address
    from index.engines.engine import Searchable
    from index.kept_open import KeptIndex
    from model.network.embedder import Embedder


class _Kept:
    """Loaded models by path and settings, and open indexes by address."""

    def __init__(self) -> None:
        self.models: dict[tuple[Path, str, str, bool], Embedder] = {}
        self.indexes: dict[str, KeptIndex] = {}
        self.closing = ExitStack()


class _Session:
    kept: _Kept | None = None


_session = _Session()


@contextmanager
def keeping_warm() -> Iterator[None]:
    """Keep what :func:`load_model` and :func:`opened_to_search` give until this ends."""
    _session.kept = kept = _Kept()
    try:
        with kept.closing:
            yield
    finally:
        _session.kept = None


def load_model(path: Path, *, device: str, runtime: str, probe: bool) -> Embedder:
    """As :meth:`model.network.embedder.Embedder.load`, once in a session."""
    from model.network.embedder import Embedder

    kept = _session.kept
    if kept is None:
        return Embedder.load(path, device=device, runtime=runtime, probe=probe)
    wanted = (path, device, runtime, probe)
    if wanted not in kept.models:
        kept.models[wanted] = Embedder.load(path, device=device, runtime=runtime, probe=probe)
    return kept.models[wanted]


@contextmanager
def opened_to_search(address: Address, purpose: str) -> Iterator[Searchable]:
    """As :func:`index.opening.open_to_search`; in a session it stays open for the next command."""
    kept = _session.kept
    if kept is None:
        from index.opening import open_to_search

        with open_to_search(address, purpose=purpose) as opened:
            yield opened
        return
    from index.kept_open import KeptIndex

    if str(address) not in kept.indexes:
        kept.indexes[str(address)] = kept.closing.enter_context(KeptIndex(address, "cbmir shell"))
    with kept.indexes[str(address)].using() as index:
        yield index
