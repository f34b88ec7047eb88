"""Backsolve: everything of its own code that the benchmark calls."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from app.numeric.method import Settings
from app.numeric.objective import Objective
from app.numeric.rows import Rows, rows_of
from app.numeric.solvers import SOLVERS, choose_solver
from app.numeric.training import TrainingData, TrainingPlan, problem_of, train
from bench._contestants import Contestant, Ended, Fit, Limits, Setting
from bench._problem import Problem
from bench._tables import Array

LIBRARY = "Backsolve"
COPIED = "with the copy from row-major"


def rows(problem: Problem) -> Rows:
    """The rows feature-major, as a training job holds them."""
    return rows_of(problem.x, problem.y, dtype=problem.x.dtype)


def solver_of(problem: Problem, data: Rows) -> str:
    """What `auto` stands for."""
    plan = _plan(problem, "lbfgs", Settings())
    return choose_solver(problem_of(TrainingData(data), plan))[0]


def contestants(problem: Problem, data: Rows) -> list[Contestant]:
    """As rows are held already, and from row-major arrays; both with default settings."""
    name = f"auto: {solver_of(problem, data)}"
    held = Setting("", lambda limits: fit(problem, data, limits))
    copied = Setting("", lambda limits: fit(problem, rows(problem), limits))
    return [
        Contestant(name, LIBRARY, (held,)),
        Contestant(COPIED, LIBRARY, (copied,)),
    ]


def fit(problem: Problem, data: Rows, limits: Limits, settings: Settings | None = None) -> Fit:
    """Trains with what `auto` picks until the limits, or until it stops by itself."""
    clock, passes, parameters = limits.clock(), 0, None
    settings = settings or Settings(epochs=10**6)
    plan = _plan(problem, solver_of(problem, data), settings)
    try:
        for progress in train(TrainingData(data), plan):
            layer, passes = progress.layer, progress.epoch
            parameters = np.hstack((layer.w, layer.b[:, None]))
            clock.look(progress.cost)
    except Ended:
        pass
    return Fit(parameters, passes)


def to_the_end(problem: Problem, data: Rows, seconds_max: float) -> Fit:
    """As low as it gets: every step is taken until none is expected to lower the cost."""
    settings = Settings(tolerance=1e-15, epochs=10**6)
    return fit(problem, data, Limits(-math.inf, seconds_max), settings)


def _plan(problem: Problem, solver: str, settings: Settings) -> TrainingPlan:
    return TrainingPlan(problem.task.activation, problem.task.cost, solver, settings, l2=problem.l2)


def full_batch_step(problem: Problem, data: Rows) -> Callable[[], object]:
    """One cost and slope over all rows."""
    objective = Objective(problem.task.activation, problem.task.cost, data, l2=problem.l2)
    parameters = objective.start()
    return lambda: objective.value_and_slope(parameters)


class Epochs(NamedTuple):
    """`run` goes once over all rows in mini-batches, `parameters` gives P (m, n + 1) after it."""

    run: Callable[[], object]
    parameters: Callable[[], Array]


class _StepsAlone(Objective):
    """Leaves out the cost over all rows that ends an epoch, for the loss history."""

    def value(self, parameters: Array) -> float:
        del parameters
        return 0.0


def mini_batch_epochs(
    problem: Problem, data: Rows, batch_size: int, rate: float, *, history: bool
) -> Epochs:
    """Gradient descent on mini-batches with a fixed rate, without penalty.

    With `history`, an epoch ends with the cost over all rows, as it does in a training job.
    """
    kind = Objective if history else _StepsAlone
    objective = kind(problem.task.activation, problem.task.cost, data)
    settings = Settings(learning_rate=rate, batch_size=batch_size, momentum=0.0)
    run = SOLVERS["gradient_descent"].prepare(objective, settings)
    state = run.start

    def epoch() -> None:
        nonlocal state
        ended = state.epoch
        while state.epoch == ended:
            state = run.step(state)

    return Epochs(epoch, lambda: state.parameters)
