"""What a bucket says of its objects."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object: its address, size in bytes, and ETag: its MD5 digest, unless it was uploaded in parts."""

    address: str
    size: int
    etag: str

    @property
    def digest(self) -> str | None:
        """The MD5 digest, in hexadecimal digits; ``None`` of an object that was uploaded in parts."""
        return self.etag if len(self.etag) == 32 and "-" not in self.etag else None
