import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.numeric.method import Schedule
from app.numeric.schedules import SCHEDULES, factor


def factors(schedule: Schedule, *, epochs: int, batches: int = 1) -> list[float]:
    steps = range(epochs * batches)
    return [factor(schedule, epochs, done=step / batches, share=1 / batches) for step in steps]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("batches", [1, 4])
def test_without_warm_up_a_schedule_begins_at_the_whole_rate(name: str, batches: int) -> None:
    assert factors(Schedule(name), epochs=20, batches=batches)[0] == 1.0


def test_constant_stays_at_the_rate() -> None:
    assert set(factors(Schedule(), epochs=7, batches=3)) == {1.0}


def test_step_multiplies_every_so_many_epochs_and_not_within() -> None:
    found = factors(Schedule("step", every_epochs=3, factor=0.1), epochs=8, batches=2)

    np.testing.assert_allclose(found, np.repeat([1.0, 0.1, 0.01], [6, 6, 4]), rtol=1e-15)


def test_cosine_is_half_at_half_time_and_would_be_zero_after_the_last_epoch() -> None:
    schedule = Schedule("cosine")

    found = factors(schedule, epochs=10)

    assert found == sorted(found, reverse=True)
    assert found[5] == pytest.approx(0.5)
    assert factor(schedule, 10, done=10, share=1.0) == 0.0
    assert factor(schedule, 10, done=12, share=1.0) == 0.0


@pytest.mark.parametrize("name", SCHEDULES)
def test_warm_up_rises_linearly_to_the_rate_and_then_the_schedule_begins(name: str) -> None:
    schedule = Schedule(name, warm_up_epochs=2, every_epochs=4)

    found = factors(schedule, epochs=10, batches=5)

    np.testing.assert_allclose(found[:10], np.arange(1, 11) / 10, rtol=1e-12)
    assert found[10] == 1.0
    without = factors(schedule._replace(warm_up_epochs=0), epochs=8, batches=5)
    np.testing.assert_allclose(found[10:], without, rtol=1e-12)


@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    warm_up=st.integers(0, 12),
    every=st.integers(1, 5),
    epochs=st.integers(1, 10),
    batches=st.integers(1, 7),
)
def test_no_step_before_the_last_epoch_stands_still_or_exceeds_the_rate(
    name: str, warm_up: int, every: int, epochs: int, batches: int
) -> None:
    found = factors(Schedule(name, warm_up, every), epochs=epochs, batches=batches)

    assert all(0.0 < each <= 1.0 for each in found)
