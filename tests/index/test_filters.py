from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from index.address import parse_address
from index.engines.engine import Where
from index.filters import as_stored, check_label
from index.opening import create_index
from index.query import query_from_stored
from model.errors import SettingError
from tests.index.conftest import describe, make_points


def test_filters_are_understood_as_they_are_typed(tmp_path: Path) -> None:
    with create_index(parse_address(tmp_path / "index"), describe(), purpose="test") as index:
        points = make_points(12)
        bare = replace(points[0].payload, header=replace(points[0].payload.header, modality=None))
        index.upsert([replace(points[0], payload=bare), *points[1:]])
        modality = str(points[1].payload.header.modality)
        assert as_stored(index, {"modality": [modality.lower()]}) == ({"modality": (modality,)}, [])
        stored, notes = as_stored(index, {"modality": ["XX"], "organ": ["knee"]})
        assert stored == {"modality": ("XX",), "organ": ("knee",)}
        assert "nothing in the index has modality=XX; it has" in notes[0]
        lacking, _ = as_stored(index, {"modality": ["unknown"]})
        assert [point for point, _ in index.scroll(Where(must=lacking))] == [points[0].id]
        both, _ = as_stored(index, {"modality": ["unknown", modality]})
        assert index.count(Where(must=both)) == 1 + index.count(Where(must={"modality": [modality]}))
        with pytest.raises(SettingError, match="no field 'modalty': did you mean 'modality'"):
            as_stored(index, {"modalty": ["CT"]})
        check_label(index, "knee")
        with pytest.raises(SettingError, match="there is no class 'nee': did you mean 'knee'"):
            check_label(index, "nee")


def test_the_first_digits_of_an_id_are_enough(tmp_path: Path) -> None:
    with create_index(parse_address(tmp_path / "index"), describe(), purpose="test") as index:
        points = make_points(40)
        twin = uuid4().hex[:8] + uuid4().hex[8:]
        index.upsert(points)
        for point in points[:5]:
            for text in (point.id.hex[:8], str(point.id)[:13], str(point.id), point.id.hex.upper()):
                assert query_from_stored(index, text).id == point.id
        with pytest.raises(SettingError, match="holds no picture"):
            query_from_stored(index, twin[:12])
        prefix = points[0].id.hex[:30]
        other = replace(points[0], id=type(points[0].id)(prefix + ("00" if points[0].id.hex[30:] != "00" else "11")))
        index.upsert([other])
        with pytest.raises(SettingError, match="more than one picture"):
            query_from_stored(index, prefix)
