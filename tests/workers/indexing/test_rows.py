from __future__ import annotations

import numpy as np
import pyarrow as pa

from workers.indexing.rows import to_array, to_binary


def test_arrays_survive_the_table_also_in_slices() -> None:
    values = np.random.default_rng(0).normal(size=(7, 16)).astype(np.float16)
    table = pa.table({"v": to_binary(values)})
    assert (to_array(table["v"], np.float16, (16,)) == values).all()
    assert (to_array(table.slice(2, 3)["v"], np.float16, (4, 4)) == values[2:5].reshape(3, 4, 4)).all()
    assert to_array(table.slice(0, 0)["v"], np.float16, (16,)).shape == (0, 16)
    assert to_binary(values[::2]).to_pylist()[1] == values[2].tobytes()
