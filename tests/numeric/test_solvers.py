import pickle

import numpy as np
import pytest

from app.numeric.errors import LimitsConflict, NotInvertible, NumericError, OutOfRange
from app.numeric.solvers import SOLVERS, choose_solver, unsuitable
from app.numeric.training import StopReason
from tests.numeric.builders import PAIRS, PLAN, allowed_targets, data_of, trained


@pytest.mark.parametrize(("activation", "cost"), PAIRS)
def test_the_chosen_solver_suits_and_trains_every_pair(activation: str, cost: str) -> None:
    x = np.random.default_rng(0).normal(size=(30, 2))
    y = allowed_targets(1, 30, 2, activation, cost)

    solver, reason = choose_solver(activation, cost)
    plan = PLAN._replace(activation=activation, cost=cost, solver=solver, epochs=20)
    history = trained(data_of(x, y), plan)

    assert unsuitable(solver, activation, cost) is None
    assert reason.endswith(".")
    assert history[-1].cost < history[0].cost
    assert history[-1].stop_reason is not StopReason.DIVERGED


def test_only_the_linear_squared_pair_is_solved_in_closed_form() -> None:
    chosen = {pair for pair in PAIRS if choose_solver(*pair)[0] == "closed_form"}

    assert chosen == {("identity", "half_squared_error")}


def test_what_does_not_suit_is_told_what_to_use_instead() -> None:
    assert "use solver gradient_descent" in str(
        unsuitable("closed_form", "sigmoid", "cross_entropy")
    )
    assert "sigmoid" in str(unsuitable("gradient_descent", "relu", "cross_entropy"))
    assert all(solver in str(unsuitable("auto", "relu", "cross_entropy")) for solver in SOLVERS)


@pytest.mark.parametrize(
    "error",
    [NotInvertible("relu"), OutOfRange(1, 2.0, 0.0, 1.0), LimitsConflict(3, 2.0, 1.0)],
)
def test_errors_survive_the_way_between_processes(error: NumericError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes

    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
