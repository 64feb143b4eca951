from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from index.query import query_from_image
from index.schema import frame_point_id
from model.errors import ImageError, Reason, SettingError
from model.images.reading import read_frames
from model.network.embedder import Embedder, Embeddings
from tests.support import phantoms
from tests.support.models import NARROW


def test_a_query_is_the_point_that_it_would_be_stored_as(archive: Path, model_path: Path) -> None:
    file = archive / "brain" / "brain-cine.dcm"
    query = query_from_image(file, Embedder.load(model_path), layers=("fcl2",), frame=3)
    assert query.id == frame_point_id(list(read_frames(file))[2])
    assert (query.frame, query.of) == (3, 4)
    assert query.features["fcl2"].shape == (NARROW,)
    assert query.organ in phantoms.ORGANS
    with pytest.raises(SettingError, match="has 4 frames: there is no frame 9"):
        query_from_image(file, Embedder.load(model_path), frame=9)


def test_features_that_are_not_finite_are_refused(archive: Path, model_path: Path) -> None:
    embedder = Embedder.load(model_path)

    class Broken(Embedder):
        def __init__(self) -> None:
            self.metadata, self.preparation = embedder.metadata, embedder.preparation

        def embed(self, images: NDArray[np.uint8], layers: Sequence[str] = ("fcl1",)) -> Embeddings:
            embeddings = embedder.embed(images, layers)
            embeddings.features["fcl1"][0, 5] = np.nan
            return embeddings

    with pytest.raises(ImageError) as caught:
        query_from_image(archive / "eye" / "eye-000.dcm", Broken(), layers=("fcl1",))
    assert caught.value.reason is Reason.NON_FINITE
