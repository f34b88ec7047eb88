"""The loss history: packed in blocks while it is written, thinned while it is read.

Extremes of extremes are extremes: to thin what has been thinned to narrower buckets gives the same
records as to thin the whole. So a block carries its records thinned to BUCKET_EPOCHS, and a long
history is shown by those, without a look at its full resolution.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from app.jobs import queries
from app.storage.arrays import pack, unpack
from app.storage.database import Session
from app.storage.tables import HistoryBlockRow

Records = NDArray[np.float64]

RECORD_WIDTH = 4  # epoch, cost, validation cost, step norm
# A block is full with so many records (128 KB); short ones stand at the end only, and not more of
# them than so many.
BLOCK_RECORDS = 4096
SHORT_BLOCKS_MAX = 32
BUCKET_EPOCHS = 256
# The lowest and the highest cost, and the same of the validation cost.
BUCKET_POINTS = 4


def append(session: Session, job_id: str, records: Records, *, ended: bool = False) -> None:
    """Stores those of the records (k, 4), in epoch order, that are not stored yet.

    They may be there already, if the answer to an earlier commit was lost. Short blocks are joined
    when they are enough for a full one, when they are many, and when the job has ended.
    """
    spans = queries.last_history_spans(session, job_id, limit=SHORT_BLOCKS_MAX)
    if spans:
        records = records[records[:, 0] > spans[0].last_epoch]
    short = list(takewhile(lambda span: span.length < BLOCK_RECORDS, spans))
    length = sum(span.length for span in short) + len(records)
    pieces = len(short) + bool(len(records))
    joins = pieces > (1 if ended else SHORT_BLOCKS_MAX)
    if short and (joins or length >= BLOCK_RECORDS):
        first_epoch = short[-1].first_epoch
        stored = queries.history_blocks(session, job_id, first_epoch=first_epoch)
        records = np.concatenate([*map(unpack, stored), records])
        queries.delete_history(session, job_id, first_epoch=first_epoch)
    session.add_all(blocks(job_id, records))


def blocks(job_id: str, records: Records) -> Iterator[HistoryBlockRow]:
    for start in range(0, len(records), BLOCK_RECORDS):
        part = records[start : start + BLOCK_RECORDS]
        thinned = thin(part, BUCKET_EPOCHS)
        yield HistoryBlockRow(
            job_id=job_id,
            first_epoch=int(part[0, 0]),
            last_epoch=int(part[-1, 0]),
            thinned=pack(thinned) if len(thinned) < len(part) / 2 else None,
            records=pack(part),
        )


def join(packed: Sequence[bytes]) -> Records:
    """All records of these blocks, shape (epochs, 4)."""
    if not packed:
        return np.empty((0, RECORD_WIDTH))
    return np.concatenate([unpack(block) for block in packed])


def read(session: Session, job_id: str, *, points_max: int) -> tuple[Records, int]:
    """At most `points_max` (10 or more) of the records (k, 4), and how many there are."""
    length = sum(span.length for span in queries.history_spans(session, job_id))
    width = bucket_epochs(length, points_max)
    packed = queries.shown_history(session, job_id, thinned=width >= BUCKET_EPOCHS)
    return shown(map(unpack, packed), width, points_max), length


def bucket_epochs(length: int, points_max: int) -> int:
    """How many epochs share a bucket, so that `points_max` suffice; 1 keeps everything."""
    if length <= points_max:
        return 1
    count = (points_max - 2) // BUCKET_POINTS
    width = -(-length // count)
    return width if width < BUCKET_EPOCHS else -(-width // BUCKET_EPOCHS) * BUCKET_EPOCHS


def shown(parts: Iterable[Records], width: int, points_max: int) -> Records:
    """The thinned whole of these parts, of which one at a time is in memory."""
    kept = [thin(part, width) for part in parts]
    records = np.concatenate([np.empty((0, RECORD_WIDTH)), *kept])
    # The job may have gone on since its epochs were counted.
    while len(thinned := thin(records, width)) > points_max:
        width *= 2
    return thinned


def thin(records: Records, width: int) -> Records:
    """The first and the last record, and the extremes of each bucket of `width` epochs.

    Those are the first with the lowest and with the highest finite cost, and the same of the
    validation cost; of a bucket without either, which shows as a gap, the first record.
    """
    if not len(records):
        return records
    bucket = (records[:, 0] // width).astype(np.int64)
    starts = np.flatnonzero(np.diff(bucket, prepend=bucket[0] - 1))
    place = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(records)))
    keep = np.zeros(len(records), dtype=bool)
    for values in (records[:, 1], -records[:, 1], records[:, 2], -records[:, 2]):
        keep[lowest(values, starts, place)] = True
    keep[starts[~np.logical_or.reduceat(keep, starts)]] = True
    keep[[0, -1]] = True
    return records[keep]


def lowest(
    values: NDArray[np.float64], starts: NDArray[np.intp], place: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Where in each bucket its lowest finite value is for the first time.

    Buckets begin at `starts`; `place` (k,) is that of each value. One without any has no place.
    """
    finite = np.isfinite(values)
    found = np.minimum.reduceat(np.where(finite, values, np.inf), starts)
    hits = np.flatnonzero(finite & (values == found[place]))
    return hits[np.unique(place[hits], return_index=True)[1]]
