"""A copy of an SQLite database and its tables that can be put back as a data folder."""

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path

from app.storage.blobs import FolderBlobs
from app.storage.database import Database, own_connection
from app.storage.whole_files import written_whole


def back_up(database: Database, tables: Path, folder: Path) -> int:
    """Copies both into a folder, and says how many tables there are. Others may write meanwhile.

    The database first: a table is stored before its row, so whatever a row of the copy names is
    there to be copied after it. Raises FileExistsError if the folder has a database already.
    """
    target = folder / "backsolve.db"
    if target.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    with written_whole(target) as file, own_connection(database) as connection:
        connection.execute("VACUUM INTO ?", (file.name,))
    copied = 0
    source, copies = FolderBlobs(tables), FolderBlobs(folder / "blobs")
    for blob in source.stored():
        # Its dataset may be deleted at this moment.
        with (
            suppress(FileNotFoundError),
            source.path(blob.key).open("rb") as original,
            copies.create(blob.key) as copy,
        ):
            shutil.copyfileobj(original, copy)
            copied += 1
    return copied
