from __future__ import annotations

from pathlib import Path

import pytest

from index.home.key import KEY_NAME, path_hider, privacy_key
from model.errors import VectorIndexError


def test_a_key_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    key = privacy_key(tmp_path, create=True)
    assert key == privacy_key(tmp_path)
    assert key
    assert path_hider(key)("a/b/a").split("/")[0] == path_hider(key)("a/b/a").split("/")[2] != "a"
    (tmp_path / KEY_NAME).write_text("")
    with pytest.raises(VectorIndexError, match="holds 0 bytes"):
        privacy_key(tmp_path)
