"""Arrays as bytes and back: NumPy's own .npy format, which carries dtype and shape."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray


def pack(array: NDArray[np.float64]) -> bytes:
    buffer = BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def unpack(data: bytes) -> NDArray[np.float64]:
    """The array that `pack` was given. Raises ValueError for anything that pickles objects."""
    return np.asarray(np.lib.format.read_array(BytesIO(data), allow_pickle=False), dtype=np.float64)
