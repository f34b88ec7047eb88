from io import BytesIO

import numpy as np
import pytest

from app.storage.arrays import pack, unpack


def test_packed_arrays_come_back_bit_for_bit() -> None:
    array = np.array([[0.1, -0.0, 5e-324], [np.inf, np.nan, 1e308]])

    restored = unpack(pack(array))

    assert restored.tobytes() == array.tobytes()


def test_bytes_that_hold_a_pickle_are_refused() -> None:
    buffer = BytesIO()
    np.save(buffer, np.array([{}], dtype=object), allow_pickle=True)

    with pytest.raises(ValueError, match="allow_pickle"):
        unpack(buffer.getvalue())
