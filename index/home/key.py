"""Keyed hashes that stand for what may name a patient: parts of paths, and Patient IDs.

The key lies in the index's folder. Who has it can find out whether a name they guess is in the index, so keep it apart
from an index that you give away: there a search by file cannot leave out the same patient, and nothing can be added.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from model.errors import VectorIndexError
from model.files import written_whole

KEY_NAME = "privacy.key"

KEY_BYTES = 32


def privacy_key(folder: Path, *, create: bool = False) -> bytes | None:
    """The key of the index in ``folder``, ``None`` if it has none; ``create`` makes one, readable to its owner only.

    Raises:
        VectorIndexError: the key cannot be read or written.
    """
    path = folder / KEY_NAME
    try:
        if create and not path.exists():
            with written_whole(path, private=True) as partial:
                partial.write_text(secrets.token_hex(KEY_BYTES))
        key = bytes.fromhex(path.read_text())
        if len(key) != KEY_BYTES:
            raise ValueError(f"it holds {len(key)} bytes, not {KEY_BYTES}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise VectorIndexError(f"{path} cannot be used ({error}): restore it, or index anew") from error
    return key


def require_privacy_key(folder: Path) -> bytes:
    """The key of an index that has hashed with it.

    Raises:
        VectorIndexError: it is lost, and without it every file would look new.
    """
    if key := privacy_key(folder):
        return key
    raise VectorIndexError(
        f"{folder} has not the {KEY_NAME} of the index: put it there from where the index was made, or index anew"
    )


def path_hider(key: bytes) -> Callable[[str], str]:
    """A function that replaces every name of a ``/``-separated path by its keyed hash; equal names stay equal."""

    @lru_cache(maxsize=100_000)
    def hide(path: str) -> str:
        return "/".join(
            hmac.new(key, name.encode(), "sha256").hexdigest()[:20] if name else "" for name in path.split("/")
        )

    return hide
