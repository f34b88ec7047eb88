"""Disks that are full: told from a database or a file system that is away."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from app.errors import StorageFull

# No space, no quota, no larger file: of files.
FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# SQLITE_FULL; and SQLITE_IOERR_WRITE, which is what a limit on the size of files comes as, or
# SQLITE_IOERR alone from a driver that does not ask for more.
FULL_SQLITE_CODES = frozenset({13, 778, 10})
# disk_full in https://www.postgresql.org/docs/current/errcodes-appendix.html
FULL_SQLSTATE = "53100"


def is_full(error: Exception) -> bool:
    """Whether the database refused to write because there is no room left."""
    driver_error = error.orig if isinstance(error, DBAPIError) else None
    return (
        getattr(driver_error, "sqlite_errorcode", None) in FULL_SQLITE_CODES
        or getattr(driver_error, "sqlstate", None) == FULL_SQLSTATE
    )


@contextmanager
def needing_room() -> Iterator[None]:
    """Raises StorageFull if a file in the block cannot be written for want of room."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL_ERRNOS:
            raise StorageFull from error
        raise
