"""When a PACS may be asked: so many instances a second at most, and in the hours of the night."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Manners:
    """What the PACS's people ask for.

    Attributes:
        rate: most instances a second, of all workers together; ``None``: as fast as it goes.
        hours: from when to when instances are fetched, as hours of the day here; 20 and 6 for the night.
    """

    rate: float | None = None
    hours: tuple[int, int] | None = None

    def closed_for(self, now: datetime) -> float:
        """Seconds until instances may be fetched; 0 if they may now."""
        if self.hours is None:
            return 0.0
        first, last = self.hours
        hour = now.hour
        if first <= hour < last if first < last else (hour >= first or hour < last):
            return 0.0
        opens = now.replace(hour=first % 24, minute=0, second=0, microsecond=0)
        return (opens + timedelta(days=opens < now) - now).total_seconds()


NO_LIMITS = Manners()


class Turns:
    """Hands out turns: the time until each, counted from when it is asked for.

    Args:
        manners: what they follow.
    """

    def __init__(self, manners: Manners) -> None:
        self._manners = manners
        self._next = 0.0

    def take(self, now: datetime, clock: float) -> float:
        """Seconds to wait before an instance is asked for.

        Args:
            now: time of day here.
            clock: seconds of a clock that never goes back.
        """
        start = max(self._next, clock + self._manners.closed_for(now))
        if self._manners.rate:
            self._next = start + 1 / self._manners.rate
        return start - clock
