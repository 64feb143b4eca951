"""Counts and times of the pipeline's stages, gathered in one small actor while a job runs."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime

from workers.indexing.manners import NO_LIMITS, Manners, Turns


@dataclass(frozen=True, slots=True)
class StageCounts:
    """Totals of a job so far; seconds are summed over all workers of a stage."""

    decoded_frames: int = 0
    left_out_files: int = 0
    decode_seconds: float = 0.0
    embedded_frames: int = 0
    embed_seconds: float = 0.0


class Counters:
    """Runs as a Ray actor; tasks and actors report to it without waiting for an answer.

    Args:
        manners: by which turns at a PACS are given, over all tasks together.
    """

    def __init__(self, manners: Manners = NO_LIMITS) -> None:
        self._turns = Turns(manners)
        self._counts = StageCounts()
        self._attempts: Counter[int] = Counter()

    def begin(self, shard: int) -> int:
        """A task starts to decode a shard: return which attempt at this shard it is, from 1."""
        self._attempts[shard] += 1
        return self._attempts[shard]

    def turn(self) -> float:
        """Seconds to wait before the next instance is asked of a PACS."""
        return self._turns.take(datetime.now(), time.monotonic())  # noqa: DTZ005 (hours are those of this machine)

    def decoded(self, frames: int, left_out: int, seconds: float) -> None:
        """A shard was decoded: its frames, the files of it that were left out, and the time."""
        old = self._counts
        self._counts = replace(
            old,
            decoded_frames=old.decoded_frames + frames,
            left_out_files=old.left_out_files + left_out,
            decode_seconds=old.decode_seconds + seconds,
        )

    def embedded(self, frames: int, seconds: float) -> None:
        """A batch was embedded."""
        old = self._counts
        self._counts = replace(
            old, embedded_frames=old.embedded_frames + frames, embed_seconds=old.embed_seconds + seconds
        )

    def counts(self) -> StageCounts:
        """The totals so far."""
        return self._counts
