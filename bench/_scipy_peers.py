"""SciPy: L-BFGS-B with slopes in NumPy, and MINPACK's Levenberg-Marquardt."""

from functools import partial

import numpy as np
from scipy import optimize, special

from bench._contestants import Contestant, Ended, Fit, Limits, Setting
from bench._problem import DataArray, Problem, evaluation, start
from bench._tables import Array

LIBRARY = "SciPy"
PARAMETERS_MAX_LM = 100
# SciPy's own choice, and one that often halves the passes.
REMEMBERED_PAIRS = (10, 50)


def contestants(problem: Problem) -> list[Contestant]:
    begin = start(problem)
    found = [
        Contestant(
            "L-BFGS-B, NumPy slopes",
            LIBRARY,
            tuple(
                Setting(f"maxcor={pairs}", partial(lbfgs, problem, begin, pairs=pairs))
                for pairs in REMEMBERED_PAIRS
            ),
            quickest=True,
        )
    ]
    if begin.size <= PARAMETERS_MAX_LM and problem.loss == "sigmoid half_squared_error":
        setting = Setting("", lambda limits: _least_squares(problem, limits))
        found.append(Contestant("least_squares lm, NumPy Jacobian", LIBRARY, (setting,)))
    return found


def lbfgs(problem: Problem, begin: Array, limits: Limits, *, pairs: int = 10) -> Fit:
    """Minimises from P (m, n + 1); ends at the limits, or where it cannot go lower."""
    clock, passes, here = limits.clock(), 0, begin

    def cost_and_slope(flat: Array) -> tuple[float, Array]:
        nonlocal passes, here
        passes, here = passes + 1, flat.reshape(begin.shape).copy()
        cost, slope = evaluation(problem, here)
        clock.look(cost)
        return cost, slope.ravel()

    try:
        result = optimize.minimize(
            cost_and_slope,
            begin.ravel(),
            jac=True,
            method="L-BFGS-B",
            options={
                "maxiter": 10**6,
                "maxfun": 10**6,
                "maxcor": pairs,
                "ftol": 0.0,
                "gtol": 0.0,
            },
        )
    except Ended:
        return Fit(here, passes)
    return Fit(np.asarray(result.x, dtype=np.float64).reshape(begin.shape), passes)


def _least_squares(problem: Problem, limits: Limits) -> Fit:
    """Residuals sigmoid(z) - y of all rows and outputs, and sqrt(l2_sum) w below them."""
    x, y = problem.x, problem.y
    (count, n), m = x.shape, y.shape[1]
    root = np.sqrt(problem.l2 * count)
    clock, passes, here = limits.clock(), 0, start(problem)
    design = np.hstack((x, np.ones((count, 1), x.dtype)))

    def y_hat_at(flat: Array) -> DataArray:
        y_hat: DataArray = special.expit(design @ flat.reshape(m, n + 1).T.astype(x.dtype))
        return y_hat

    def residuals(flat: Array) -> Array:
        nonlocal passes, here
        passes, here = passes + 1, flat.reshape(m, n + 1).copy()
        below = root * here[:, :-1]
        all_of_them = np.concatenate(((y_hat_at(flat) - y).ravel(), below.ravel()))
        clock.look(0.5 * float(all_of_them @ all_of_them) / count)
        return all_of_them.astype(np.float64)

    def jacobian(flat: Array) -> Array:
        y_hat = y_hat_at(flat)
        slope = y_hat * (1 - y_hat)
        matrix = np.zeros((count * m + m * n, m, n + 1))
        for j in range(m):
            matrix[j : count * m : m, j] = slope[:, j, None] * design
            matrix[count * m + j * n : count * m + (j + 1) * n, j, :n] = root * np.eye(n)
        return matrix.reshape(len(matrix), -1)

    try:
        result = optimize.least_squares(
            residuals, here.ravel(), jacobian, method="lm", ftol=1e-15, xtol=1e-15, gtol=1e-15
        )
    except Ended:
        return Fit(here, passes)
    return Fit(np.asarray(result.x).reshape(m, n + 1), passes)
