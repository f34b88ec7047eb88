"""A history is stored without loss in few rows, and shown in little with every extreme."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.jobs import events, history, queries
from app.jobs.events import START
from app.jobs.history import BLOCK_RECORDS, BUCKET_EPOCHS, join, shown, thin
from app.numeric.activations import Array
from app.storage.arrays import pack, unpack
from app.storage.database import Database, Session, clock
from tests.builders import Api
from tests.jobs.rows import OWNER, job_row

MILLION = 1_000_000
ANSWER_BYTES_MAX = 100_000

pairs = st.lists(st.tuples(st.floats(width=64), st.floats(width=64)), min_size=0, max_size=400)


def records_of(values: Sequence[tuple[float, float]]) -> Array:
    records = np.zeros((len(values), 4))
    records[:, 0] = np.arange(len(values))
    records[:, 1:3] = np.array(values, dtype=np.float64).reshape(-1, 2)
    return records


def picked(records: Array, width: int) -> list[int]:
    """The epochs that thinning is to keep, bucket by bucket with plain numpy."""
    keep = {0, len(records) - 1} if len(records) else set[int]()
    for start in range(0, len(records), width):
        found = set[int]()
        for column in (1, 2):
            values = records[start : start + width, column]
            finite = np.where(np.isfinite(values), values, np.nan)
            if not np.isnan(finite).all():
                found |= {start + int(np.nanargmin(finite)), start + int(np.nanargmax(finite))}
        keep |= found or {start}
    return sorted(keep)


@given(pairs, st.integers(1, 60))
def test_thinning_keeps_ends_and_the_extremes_of_both_costs_in_every_bucket(
    values: list[tuple[float, float]], width: int
) -> None:
    records = records_of(values)

    thinned = thin(records, width)

    assert thinned[:, 0].tolist() == picked(records, width)
    assert np.array_equal(thinned, records[thinned[:, 0].astype(int)], equal_nan=True)


@given(pairs, st.integers(1, 9), st.integers(1, 9), st.lists(st.integers(0, 400), max_size=5))
def test_thinning_in_parts_and_again_is_thinning_at_once(
    values: list[tuple[float, float]], width: int, times: int, cuts: list[int]
) -> None:
    records = records_of(values)
    edges = sorted({0, len(records), *(min(cut, len(records)) for cut in cuts)})
    parts = [thin(records[start:end], width) for start, end in pairwise(edges)]

    again = shown(parts, width * times, points_max=1000)

    assert np.array_equal(again, thin(records, width * times), equal_nan=True)


@given(st.integers(0, 3 * 10**6), st.integers(10, 100_000))
def test_buckets_are_as_many_as_the_points_suffice_for(length: int, points_max: int) -> None:
    width = history.bucket_epochs(length, points_max)

    buckets = -(-length // width)
    assert buckets * (1 if width == 1 else history.BUCKET_POINTS) <= points_max
    assert width < BUCKET_EPOCHS or width % BUCKET_EPOCHS == 0


def test_blocks_join_in_order() -> None:
    first, second = np.arange(8.0).reshape(2, 4), np.arange(8.0, 12.0).reshape(1, 4)

    joined = join([pack(first), pack(second)])

    assert joined.tolist() == np.arange(12.0).reshape(3, 4).tolist()
    assert join([]).shape == (0, 4)


def a_curve(epochs: int) -> Array:
    """Costs that fall, with noise and a few spikes; the validation cost has its own."""
    random = np.random.default_rng(11)
    records = np.empty((epochs, 4))
    records[:, 0] = np.arange(epochs)
    records[:, 1:3] = 1 / (1 + np.arange(epochs))[:, None] + 1e-3 * random.random((epochs, 2))
    records[:, 3] = random.random(epochs)
    records[epochs // 3, 1], records[epochs // 7, 2] = 1e9, -5.0
    records[epochs // 2, 2], records[-1, 1] = np.inf, np.nan
    return records


def with_job(database: Database, records: Array, cuts: Sequence[int]) -> None:
    """A job whose history was appended in pieces, each in a transaction."""
    with database.writing() as session:
        session.add(job_row(clock(session)))
    for start, end in pairwise([0, *cuts, len(records)]):
        with database.writing() as session:
            history.append(session, "job_1", records[start:end], ended=end == len(records))


def test_a_million_epochs_are_shown_in_100_kb_with_every_extreme_exact(
    api: Api, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = a_curve(MILLION)
    with_job(database, records, range(99_991, MILLION, 99_991))
    unpacked: list[int] = []

    def counted(block: bytes) -> Array:
        unpacked.append(len(unpack(block)))
        return unpack(block)

    monkeypatch.setattr(history, "unpack", counted)
    response = api.client.get("/v1/jobs/job_1/history")
    answer = response.json()

    assert len(response.content) < ANSWER_BYTES_MAX
    assert sum(unpacked) < MILLION / 40
    assert answer["epoch_count"] == MILLION
    shown_epochs = np.array(answer["epoch"])
    width = history.bucket_epochs(MILLION, 1000)
    assert shown_epochs.tolist() == picked(records, width)
    for column, name in ((1, "cost"), (2, "validation_cost"), (3, "step_norm")):
        told = np.array([np.nan if value is None else value for value in answer[name]])
        wanted = records[shown_epochs, column]
        assert np.array_equal(told, np.where(np.isfinite(wanted), wanted, np.nan), equal_nan=True)


def test_a_million_epochs_of_the_longest_numbers_stay_under_100_kb(
    api: Api, database: Database
) -> None:
    records = a_curve(MILLION)
    records[:, 1:] = -2.2250738585072014e-308 * (1 + 1e-15 * records[:, 1:])
    with_job(database, records, ())

    answer = api.client.get("/v1/jobs/job_1/history").content

    assert len(answer) < ANSWER_BYTES_MAX


def test_a_job_that_ends_soon_has_its_history_in_one_block(database: Database) -> None:
    records = a_curve(8)
    with_job(database, records, [5])

    with database.reading() as session:
        spans = queries.history_spans(session, "job_1")
        kept = join(queries.history_blocks(session, "job_1"))

    assert spans == [(0, 7)]
    assert np.array_equal(kept, records, equal_nan=True)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_appended_is_stored_once_in_blocks_of_which_only_the_last_are_short(
    database: Database, seed: int
) -> None:
    random = np.random.default_rng(seed)
    records = a_curve(30_000)
    sizes = [1, 7, 300, 5000][: seed + 1]
    with database.writing() as session:
        session.add(job_row(clock(session)))

    end = 0
    for _ in range(200):
        # What was stored before comes again, when the answer to its commit was lost.
        start = max(0, end - int(random.integers(0, 3)))
        end = min(len(records), end + int(random.choice(sizes)))
        with database.writing() as session:
            history.append(session, "job_1", records[start:end])
            spans = queries.last_history_spans(session, "job_1", limit=1000)
        short = [span.length < BLOCK_RECORDS for span in spans]
        assert sum(short) <= history.SHORT_BLOCKS_MAX
        assert short == sorted(short, reverse=True)
    start, end = end, min(len(records), end + seed)
    with database.writing() as session:
        history.append(session, "job_1", records[start:end], ended=True)

    with database.reading() as session:
        kept = join(queries.history_blocks(session, "job_1"))
        blocks = len(queries.history_spans(session, "job_1"))
    assert np.array_equal(kept, records[:end], equal_nan=True)
    assert blocks == -(-end // BLOCK_RECORDS)


@pytest.mark.parametrize("seed", range(3))
def test_followers_miss_and_repeat_nothing_while_blocks_are_joined(
    database: Database, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(history, "BLOCK_RECORDS", 20)
    monkeypatch.setattr(history, "SHORT_BLOCKS_MAX", 3)
    monkeypatch.setattr(events, "BLOCKS_MAX", 2)
    random, records, end = np.random.default_rng(seed), a_curve(600), 0
    places, told = [START] * 3, [list[int]() for _ in range(3)]

    def follow(session: Session, follower: int) -> None:
        found = events.news(session, OWNER, "job_1", places[follower])
        places[follower] = found.place
        for event in found.events:
            told[follower] += event.data["epoch"] if event.kind == "history" else []

    with database.writing() as session:
        session.add(job_row(clock(session)))
    while end < len(records):
        start, end = end, min(len(records), end + int(random.choice([1, 2, 9, 50])))
        with database.writing() as session:
            history.append(session, "job_1", records[start:end], ended=end == len(records))
        with database.reading() as session:
            follow(session, int(random.integers(3)))
    for follower in list(range(3)) * 40:
        with database.reading() as session:
            follow(session, follower)

    assert told == [list(range(600))] * 3
