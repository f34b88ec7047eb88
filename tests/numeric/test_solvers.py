import pickle
from typing import Any

import numpy as np
import pytest

from app.numeric.costs import COSTS, is_bounded
from app.numeric.errors import NumericError, OutOfRange
from app.numeric.solvers import NEEDS, SOLVERS, Problem, choose_solver, unsuitable
from app.numeric.training import StopReason
from tests.numeric.builders import PAIRS, PLAN, allowed_targets, data_of, settings_of, trained

LINEAR = Problem("identity", "half_squared_error", rows=1000, inputs=10, outputs=1)


def problem(activation: str, cost: str, **changes: Any) -> Problem:
    return LINEAR._replace(activation=activation, cost=cost)._replace(**changes)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(("activation", "cost"), PAIRS)
def test_the_chosen_solver_suits_and_trains_every_pair(
    activation: str, cost: str, sparse: bool
) -> None:
    x = np.random.default_rng(0).normal(size=(30, 2))
    y = allowed_targets(1, 30, 2, activation, cost)
    asked = problem(activation, cost, rows=30, inputs=2, outputs=2)._replace(sparse_penalty=sparse)

    solver, reason = choose_solver(asked)
    plan = PLAN._replace(activation=activation, cost=cost, solver=solver, l1=1e-3 * sparse)
    history = trained(data_of(x, y), settings_of(plan, epochs=20))

    assert unsuitable(solver, asked) is None
    assert reason.endswith(".")
    assert history[-1].cost < history[0].cost
    assert history[-1].stop_reason is not StopReason.DIVERGED


@pytest.mark.parametrize(
    ("asked", "solver"),
    [
        (LINEAR, "closed_form"),
        (LINEAR._replace(inputs=5000), "lbfgs"),
        (LINEAR._replace(sparse_penalty=True), "proximal_newton"),
        (problem("exp", "half_squared_error")._replace(sparse_penalty=True), "nesterov"),
        (LINEAR._replace(options=frozenset({"batch_size"})), "momentum"),
        (problem("identity", "huber"), "lbfgs"),
        (problem("softmax", "cross_entropy", inputs=4, outputs=3), "newton"),
        (problem("softmax", "cross_entropy", inputs=64, outputs=10), "lbfgs"),
        (problem("sigmoid", "cross_entropy"), "newton"),
        (problem("sigmoid", "cross_entropy", inputs=200), "lbfgs"),
        (problem("sigmoid", "cross_entropy", inputs=200, rows=10**6), "newton"),
        (problem("exp", "poisson"), "newton"),
        (problem("sigmoid", "half_squared_error"), "lbfgs"),
        (problem("tanh", "half_squared_error")._replace(scaled=False), "levenberg_marquardt"),
        (problem("relu", "half_squared_error")._replace(scaled=False), "lbfgs"),
    ],
)
def test_auto_takes_what_was_measured_to_be_quickest(asked: Problem, solver: str) -> None:
    assert choose_solver(asked)[0] == solver


def test_what_does_not_suit_is_told_what_is_missing_and_what_to_use_instead() -> None:
    logistic = problem("sigmoid", "cross_entropy")

    assert unsuitable("closed_form", logistic) == (
        "Solver closed_form needs activation identity with cost half_squared_error; "
        "use solver newton."
    )
    assert "use solver lbfgs" in str(unsuitable("newton", problem("tanh", "half_squared_error")))
    assert "use solver proximal_newton" in str(
        unsuitable("lbfgs", logistic._replace(sparse_penalty=True))
    )
    assert "sigmoid or softmax" in str(unsuitable("lbfgs", problem("relu", "cross_entropy")))
    assert all(solver in str(unsuitable("auto", LINEAR)) for solver in SOLVERS)


def test_a_setting_that_a_solver_does_not_read_is_refused_by_name() -> None:
    asked = LINEAR._replace(options=frozenset({"learning_rate"}))

    assert "has no learning_rate" in str(unsuitable("lbfgs", asked))
    assert unsuitable("gradient_descent", asked) is None
    assert "has no momentum" in str(
        unsuitable("gradient_descent", LINEAR._replace(options=frozenset({"momentum"})))
    )


def test_mini_batches_need_memory_and_a_rate() -> None:
    batches = LINEAR._replace(options=frozenset({"batch_size"}))
    counts = batches._replace(activation="exp", cost="poisson")

    assert "memory" in str(unsuitable("momentum", batches._replace(in_memory=False)))
    assert "give a learning_rate" in str(unsuitable("momentum", counts))
    assert (
        unsuitable("momentum", counts._replace(options=counts.options | {"learning_rate"})) is None
    )


def test_only_pairs_without_a_bound_lack_an_automatic_rate() -> None:
    unbounded = {pair for pair in PAIRS if not is_bounded(*pair)}

    assert unbounded == {
        *(
            (name, cost)
            for name in ("exp", "leaky_relu")
            for cost in ("half_squared_error", "huber")
        ),
        ("exp", "poisson"),
    }


def test_every_need_is_one_that_is_explained() -> None:
    named = {need for traits in SOLVERS.values() for need in traits.needs}
    assert named | {"memory"} == set(NEEDS)
    assert all(
        set(row.second_derivative) <= (row.activations or {"identity"}) for row in COSTS.values()
    )


@pytest.mark.parametrize(
    "error",
    [OutOfRange(1, 2.0, 0.0, 1.0)],
)
def test_errors_survive_the_way_between_processes(error: NumericError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes

    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
