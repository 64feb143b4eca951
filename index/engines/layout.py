"""How a server spreads a new index over its nodes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Layout:
    """Fixed when a collection is made; ``None`` leaves it to the server. An embedded index has none.

    Attributes:
        shards: parts of the collection, over which nodes share it.
        replicas: copies of each shard.
        write_consistency: copies that must have stored a write before it is confirmed.
    """

    shards: int | None = None
    replicas: int | None = None
    write_consistency: int | None = None


DEFAULT_LAYOUT = Layout()
"""As the server likes."""
