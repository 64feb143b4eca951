from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from model import errors


def test_every_error_is_of_the_tree_and_survives_pickling() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 10
    for kind in kinds:
        assert issubclass(kind, errors.CbmirError)
        arguments = (Path("a.dcm"), errors.Reason.CORRUPT, "why") if kind is errors.ImageError else ("one sentence",)
        error = kind(*arguments)
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again)) == (kind, str(error))


def test_an_image_error_names_file_reason_and_detail() -> None:
    error = errors.ImageError(Path("a.dcm"), errors.Reason.CORRUPT, "frame 2 of 9: no data")
    assert str(error) == "a.dcm: corrupt or truncated: frame 2 of 9: no data"


def test_ctrl_c_is_found_behind_what_python_makes_of_it() -> None:
    class Interrupting:
        def __set_name__(self, owner: type, name: str) -> None:
            raise KeyboardInterrupt

    with pytest.raises((RuntimeError, KeyboardInterrupt)) as caught:  # the former in Python 3.11

        class Made:
            field = Interrupting()

    assert errors.was_interrupted(caught.value)
    assert not errors.was_interrupted(RuntimeError("something else"))
