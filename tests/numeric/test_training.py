import itertools
import math

import numpy as np
import pytest
from sklearn.datasets import load_diabetes

from app.numeric.activations import Array
from app.numeric.errors import NumericError, OutOfRange, ShapeError
from app.numeric.layer import mean_cost
from app.numeric.rows import rows_of
from app.numeric.training import StopReason, TrainingData, TrainingPlan, train
from tests.numeric.builders import PLAN, data_of, settings_of, trained

CLOSED = PLAN._replace(solver="closed_form")


def noisy(rows: int, inputs: int, *, seed: int = 0) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, inputs))
    return x, x[:, :1] + random.normal(size=(rows, 1))


def over_fitting() -> TrainingData:
    x, y = noisy(60, 25)
    return TrainingData(rows_of(x[:30], y[:30]), rows_of(x[30:], y[30:]))


def test_closed_form_shows_its_start_and_its_end() -> None:
    x, y = noisy(40, 3)

    start, end = trained(data_of(x, y), CLOSED)

    assert (start.epoch, start.stop_reason, start.step_norm) == (0, None, 0.0)
    assert (end.epoch, end.stop_reason, end.learning_rate) == (1, StopReason.CONVERGED, None)
    assert start.cost == pytest.approx(y.var() / 2)
    assert end.cost < start.cost


def test_only_the_last_progress_has_a_stop_reason_and_epochs_count_from_zero() -> None:
    history = trained(data_of(*noisy(40, 3)), settings_of(PLAN, epochs=7))

    assert [progress.epoch for progress in history] == list(range(8))
    assert [progress.stop_reason for progress in history] == [None] * 7 + [StopReason.EPOCH_LIMIT]


def test_the_cost_is_the_mean_over_rows_plus_the_penalty_without_b() -> None:
    x, y = noisy(40, 3)

    last = trained(data_of(x, y + 10.0), settings_of(PLAN._replace(l2=0.5), epochs=5))[-1]

    mean = mean_cost(last.layer, "half_squared_error", x, y + 10.0)
    assert last.cost == pytest.approx(mean + 0.25 * np.square(last.layer.w).sum(), rel=1e-14)


def test_step_norm_is_the_length_of_the_change_of_w_and_b() -> None:
    history = trained(data_of(*noisy(40, 3)), settings_of(PLAN, epochs=4))

    for before, after in itertools.pairwise(history):
        change = np.append(after.layer.w - before.layer.w, after.layer.b - before.layer.b)
        assert after.step_norm == pytest.approx(np.linalg.norm(change))


def test_converged_means_that_the_cost_is_at_its_minimum() -> None:
    x, y = load_diabetes(return_X_y=True)
    data = data_of(x / x.std(axis=0), y[:, None])

    last = trained(data, settings_of(PLAN, epochs=100_000, tolerance=1e-9))[-1]

    assert last.stop_reason is StopReason.CONVERGED
    assert last.cost == pytest.approx(trained(data, CLOSED)[-1].cost, rel=1e-5)


def test_rising_costs_are_not_taken_for_convergence() -> None:
    plan = settings_of(PLAN, learning_rate=5.0, epochs=4000, tolerance=1e-3)

    last = trained(data_of(*noisy(40, 3)), plan)[-1]

    assert last.stop_reason is StopReason.DIVERGED


def test_a_cost_that_only_rises_is_divergence_and_not_early_stopping() -> None:
    plan = settings_of(PLAN._replace(patience=3), learning_rate=1e3)

    last = trained(over_fitting(), plan)[-1]

    assert last.stop_reason is StopReason.DIVERGED
    assert last.epoch == 3


def test_early_stopping_keeps_the_layer_of_the_best_validation_cost() -> None:
    data = over_fitting()

    history = trained(data, settings_of(PLAN._replace(patience=10), epochs=5000))

    last = history[-1]
    best = min(history, key=lambda progress: progress.validation_cost)
    assert last.stop_reason is StopReason.EARLY_STOPPING
    assert last.epoch == best.epoch + 10
    np.testing.assert_array_equal(last.layer.w, best.layer.w)
    np.testing.assert_array_equal(last.layer.b, best.layer.b)
    assert last.validation_cost > best.validation_cost


def test_an_improvement_below_min_delta_does_not_count() -> None:
    data = over_fitting()

    patient = trained(data, settings_of(PLAN._replace(patience=5), epochs=5000))
    strict = trained(data, settings_of(PLAN._replace(patience=5, min_delta=10.0), epochs=5000))

    assert strict[-1].epoch == 5
    assert patient[-1].epoch > 5


def test_without_validation_rows_there_is_no_early_stopping() -> None:
    history = trained(
        data_of(*noisy(40, 3)), settings_of(PLAN._replace(patience=1), epochs=20, tolerance=0.0)
    )

    assert history[-1].stop_reason is StopReason.EPOCH_LIMIT
    assert all(math.isnan(progress.validation_cost) for progress in history)


def test_the_time_limit_is_looked_at_after_every_epoch() -> None:
    ticks = itertools.count()
    plan = PLAN._replace(max_seconds=3.0)

    history = list(train(data_of(*noisy(40, 3)), plan, clock=lambda: float(next(ticks))))

    assert history[-1].stop_reason is StopReason.TIME_LIMIT
    assert history[-1].epoch == 2


def test_a_caller_may_stop_pulling() -> None:
    run = train(data_of(*noisy(40, 3)), PLAN)

    pulled = list(itertools.islice(run, 3))

    assert [progress.stop_reason for progress in pulled] == [None, None, None]


@pytest.mark.parametrize(
    ("plan", "sentence"),
    [
        (CLOSED._replace(activation="tanh"), "use solver lbfgs"),
        (PLAN._replace(activation="tanh", cost="cross_entropy"), "needs activation sigmoid"),
        (PLAN._replace(solver="sgd"), "no solver sgd"),
    ],
)
def test_a_plan_that_does_not_fit_together_is_refused_before_the_first_epoch(
    plan: TrainingPlan, sentence: str
) -> None:
    with pytest.raises(NumericError, match=sentence):
        train(data_of(*noisy(5, 2)), plan)


def test_a_target_that_the_cost_does_not_allow_is_refused_with_its_output() -> None:
    x = np.ones((3, 1))
    y = np.array([[0.0, 0.5], [1.0, 1.5], [0.5, 0.5]])

    with pytest.raises(OutOfRange) as caught:
        train(data_of(x, y), PLAN._replace(activation="sigmoid", cost="cross_entropy"))

    assert (caught.value.output, caught.value.low, caught.value.high) == (1, 0.0, 1.0)
    assert "1.5" in str(caught.value)


def test_rows_that_do_not_match_or_are_missing_are_refused() -> None:
    with pytest.raises(ShapeError):
        train(data_of(np.ones((3, 2)), np.ones((4, 1))), PLAN)
    with pytest.raises(ShapeError):
        train(data_of(np.ones((0, 2)), np.ones((0, 1))), PLAN)
    with pytest.raises(NumericError, match="finite"):
        train(data_of(np.array([[np.nan]]), np.ones((1, 1))), PLAN)


def separable() -> tuple[Array, Array]:
    x = np.random.default_rng(0).normal(size=(40, 2))
    return x, (x[:, :1] > 0).astype(float)


@pytest.mark.parametrize("solver", ["newton", "lbfgs", "momentum"])
def test_separable_labels_without_a_penalty_are_noticed_and_end(solver: str) -> None:
    plan = PLAN._replace(activation="sigmoid", cost="cross_entropy", solver=solver)

    last = trained(data_of(*separable()), settings_of(plan, learning_rate=None, epochs=3000))[-1]

    assert last.separable
    assert np.isfinite(last.layer.w).all()
    if solver != "momentum":
        assert last.stop_reason is StopReason.SEPARABLE


def test_a_penalty_makes_separable_labels_harmless() -> None:
    plan = PLAN._replace(activation="sigmoid", cost="cross_entropy", solver="newton", l2=1e-3)

    last = trained(data_of(*separable()), plan)[-1]

    assert not last.separable
    assert last.stop_reason is StopReason.CONVERGED


def test_one_label_on_the_wrong_side_is_not_called_separable() -> None:
    x, y = separable()
    farthest = int(x[:, 0].argmax())
    y[farthest] = 0.0
    plan = PLAN._replace(activation="sigmoid", cost="cross_entropy", solver="newton")

    last = trained(data_of(x, y), plan)[-1]

    assert not last.separable


def test_shares_are_never_called_separable() -> None:
    x, y = separable()
    plan = PLAN._replace(activation="sigmoid", cost="cross_entropy", solver="newton")

    last = trained(data_of(x, np.clip(y, 1e-9, 1 - 1e-9)), plan)[-1]

    assert not last.separable


def test_classes_of_softmax_must_sum_to_one() -> None:
    plan = PLAN._replace(activation="softmax", cost="cross_entropy")

    with pytest.raises(NumericError, match="sum to 1"):
        train(data_of(np.ones((2, 1)), np.array([[1.0, 0.0], [0.5, 0.4]])), plan)
