"""scikit-learn: every solver of its own that has our objective, at the loosest tolerance that does.

LogisticRegression lowers C * sum of cost + |w|^2 / 2, and gives three contestants the names of its
solvers; Ridge lowers the sum of squares + alpha |w|^2. Squared error behind a sigmoid has none.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge

from bench._contestants import Contestant, Ended, Fit, Limits, Setting, ended_after
from bench._problem import DataArray, Problem

LIBRARY = "scikit-learn"
TOLERANCES = tuple(10.0**-k for k in range(1, 13))


def contestants(problem: Problem) -> list[Contestant]:
    if problem.task.activation == "identity":
        return _regressions(problem)
    return _classifications(problem) if problem.task.cost == "cross_entropy" else []


def _classifications(problem: Problem) -> list[Contestant]:
    y = problem.y
    labels = y.argmax(axis=1) if y.shape[1] > 1 else y[:, 0].astype(np.intp)

    def make(solver: str, tolerance: float) -> Callable[[], Any]:
        return lambda: LogisticRegression(
            C=1.0 / problem.task.l2_sum, solver=solver, tol=tolerance, max_iter=10**5
        )

    return [
        Contestant(
            solver,
            LIBRARY,
            tuple(_setting(problem, make(solver, t), labels, f"tol={t:.0e}") for t in TOLERANCES),
        )
        for solver in ("lbfgs", "newton-cholesky", "newton-cg")
    ]


def _regressions(problem: Problem) -> list[Contestant]:
    alpha = problem.task.l2_sum

    def ridge(solver: str, tolerance: float) -> Callable[[], Any]:
        return lambda: Ridge(alpha=alpha, solver=solver, tol=tolerance, max_iter=10**5)

    direct = {f"Ridge {solver}": ridge(solver, 1e-4) for solver in ("cholesky", "svd")}
    if not alpha:
        direct["LinearRegression"] = LinearRegression
    y = problem.y[:, 0]
    found = [
        Contestant(name, LIBRARY, (_setting(problem, make, y, ""),))
        for name, make in direct.items()
    ]
    grid = tuple(_setting(problem, ridge("lsqr", t), y, f"tol={t:.0e}") for t in TOLERANCES)
    return [*found, Contestant("Ridge lsqr", LIBRARY, grid)]


def _setting(problem: Problem, make: Callable[[], Any], y: DataArray, text: str) -> Setting:
    def fit(limits: Limits) -> Fit:
        try:
            with warnings.catch_warnings(), ended_after(limits.seconds_max):
                # Convergence and conditioning are judged by the cost that it reaches.
                warnings.simplefilter("ignore")
                model = make().fit(problem.x, y)
        except Ended:
            return Fit(None, 0)
        w = np.atleast_2d(np.asarray(model.coef_, dtype=np.float64))
        b = np.asarray(model.intercept_, dtype=np.float64).reshape(-1, 1)
        passes = np.max(getattr(model, "n_iter_", None) or 1)
        return Fit(np.hstack((w, b)), int(passes))

    return Setting(text, fit)
