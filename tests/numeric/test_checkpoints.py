"""Cut anywhere, resumed from bytes: the same bits as never having stopped, for every solver."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.numeric.activations import Array
from app.numeric.checkpoints import from_bytes, to_bytes
from app.numeric.errors import NumericError
from app.numeric.method import Schedule
from app.numeric.rows import rows_of
from app.numeric.training import Progress, TrainingData, TrainingPlan, train
from tests.numeric.builders import PLAN, allowed_targets, settings_of

SIGMOID = PLAN._replace(activation="sigmoid", cost="cross_entropy", patience=6)
SQUARED = PLAN._replace(activation="tanh", patience=6)
SMALL_BATCHES = {"batch_size": 7, "learning_rate": 0.05, "epochs": 6}
PLANS: dict[str, TrainingPlan] = {
    "closed_form": PLAN._replace(solver="closed_form", l2=0.1),
    "newton": SIGMOID._replace(solver="newton", l2=0.01),
    "newton softmax": SIGMOID._replace(solver="newton", activation="softmax", l2=0.01),
    "lbfgs": SQUARED._replace(solver="lbfgs"),
    "levenberg_marquardt": SQUARED._replace(solver="levenberg_marquardt"),
    "proximal_newton": SIGMOID._replace(solver="proximal_newton", l1=0.02),
    "gradient_descent": settings_of(SQUARED._replace(solver="gradient_descent"), epochs=9),
    "momentum": settings_of(SQUARED, epochs=9),
    "nesterov": settings_of(SQUARED._replace(solver="nesterov"), epochs=9),
    "adam": settings_of(SQUARED._replace(solver="adam"), epochs=9),
    "backtracking": settings_of(
        PLAN._replace(activation="exp", cost="poisson", solver="gradient_descent"), epochs=9
    ),
} | {
    f"{solver} on batches": settings_of(SIGMOID._replace(solver=solver), **SMALL_BATCHES)
    for solver in ("gradient_descent", "momentum", "nesterov", "adam")
}
PLANS["scheduled"] = settings_of(
    SIGMOID._replace(solver="momentum", l1=0.01),
    schedule=Schedule("cosine", warm_up_epochs=2),
    clip_norm=0.5,
    **SMALL_BATCHES,
)


def data_for(plan: TrainingPlan) -> TrainingData:
    random = np.random.default_rng(3)
    x = random.normal(size=(60, 4))
    y = allowed_targets(2, 60, 3, plan.activation, plan.cost)
    return TrainingData(rows_of(x[:45], y[:45]), rows_of(x[45:], y[45:]))


def bits(history: list[Progress]) -> list[tuple[object, ...]]:
    """All that a caller can see of each step, and of the state behind it."""
    return [
        (
            progress.epoch,
            progress.batch,
            progress.layer.w.tobytes(),
            progress.layer.b.tobytes(),
            progress.cost,
            repr(progress.validation_cost),
            repr(progress.step_norm),
            progress.stop_reason,
            [array.tobytes() for array in progress.checkpoint.state.memory],
        )
        for progress in history
    ]


@pytest.mark.parametrize("name", PLANS)
@settings(max_examples=6)
@given(draw=st.randoms(use_true_random=False))
def test_resuming_gives_the_same_bits_as_never_stopping(name: str, draw: object) -> None:
    plan = PLANS[name]
    whole = list(train(data_for(plan), plan))
    cut = draw.randrange(len(whole) - 1) if len(whole) > 2 else 0  # type: ignore[attr-defined]
    before = list(itertools.islice(train(data_for(plan), plan), cut + 1))

    checkpoint = from_bytes(to_bytes(before[-1].checkpoint))
    after = list(train(data_for(plan), plan, resume=checkpoint))

    assert bits(before + after) == bits(whole)


def test_the_seconds_before_a_checkpoint_count_towards_the_limit() -> None:
    now = itertools.count()
    plan = PLAN._replace(max_seconds=10.0)
    first = next(train(data_for(plan), plan, clock=lambda: float(next(now))))
    late = first.checkpoint._replace(seconds=9.5)

    [resumed] = train(data_for(plan), plan, resume=late, clock=lambda: float(next(now)))

    assert resumed.stop_reason == "time_limit"


def test_a_checkpoint_keeps_numbers_that_json_cannot_say() -> None:
    plan = PLAN._replace(patience=None)
    first = next(train(data_for(plan), plan))
    state = first.checkpoint.state._replace(cost=math.nan, memory=(np.array(-0.0),))
    record = first.checkpoint.record._replace(best_cost=math.inf)

    back = from_bytes(to_bytes(first.checkpoint._replace(state=state, record=record)))

    assert math.isnan(back.state.cost)
    assert math.isinf(back.record.best_cost)
    assert back.state.memory[0].shape == ()
    assert math.copysign(1.0, back.state.memory[0].item()) == -1.0


@pytest.mark.parametrize(
    "data", [b"", b"{}\n", b'{"format": 2}\n', b"\x80\x04.", b'{"format": 1, "arrays": 3}\n']
)
def test_what_is_no_checkpoint_is_refused(data: bytes) -> None:
    with pytest.raises(NumericError, match="checkpoint"):
        from_bytes(data)


def test_a_checkpoint_never_unpickles() -> None:
    plan = PLAN
    first = next(train(data_for(plan), plan))
    objects: Array = np.array([{"a": 1}], dtype=object)

    with pytest.raises(ValueError, match="pickle"):
        to_bytes(
            first.checkpoint._replace(state=first.checkpoint.state._replace(memory=(objects,)))
        )
