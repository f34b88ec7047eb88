from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from app.storage.arrays import pack, unpack
from app.storage.blobs import Blobs


def test_a_blob_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)

    with pytest.raises(ZeroDivisionError), blobs.create("ds_ab") as file:
        file.write(b"half")
        _ = 1 / 0
    files_after_failure = [path for path in tmp_path.rglob("*") if path.is_file()]
    with blobs.create("ds_ab") as file:
        file.write(b"whole")
        seen_while_writing = blobs.path("ds_ab").exists()

    assert files_after_failure == []
    assert not seen_while_writing
    assert blobs.path("ds_ab").read_bytes() == b"whole"


def test_deleting_a_blob_twice_is_fine(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    with blobs.create("ds_ab") as file:
        file.write(b"x")

    blobs.delete("ds_ab")
    blobs.delete("ds_ab")

    assert not blobs.path("ds_ab").exists()


def test_packed_arrays_come_back_bit_for_bit() -> None:
    array = np.array([[0.1, -0.0, 5e-324], [np.inf, np.nan, 1e308]])

    restored = unpack(pack(array))

    assert restored.tobytes() == array.tobytes()


def test_bytes_that_hold_a_pickle_are_refused() -> None:
    buffer = BytesIO()
    np.save(buffer, np.array([{}], dtype=object), allow_pickle=True)

    with pytest.raises(ValueError, match="allow_pickle"):
        unpack(buffer.getvalue())
