"""Tables as Arrow files in the blob store: columnar, uncompressed, so that reading maps memory."""

import pyarrow as pa

from app.storage.blobs import Blobs


def write(blobs: Blobs, key: str, table: pa.Table) -> None:
    with blobs.create(key) as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def read(blobs: Blobs, key: str) -> pa.Table:
    """The table, its columns still on disk until they are touched.

    Only files that `write` made are ever opened here: Arrow trusts its files (an upload in this
    format would have to be validated in full first).
    """
    with pa.memory_map(str(blobs.path(key))) as source:
        return pa.ipc.open_file(source).read_all()
