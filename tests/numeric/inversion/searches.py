"""General searches of SciPy, which promise nothing and must find nothing better."""

import warnings
from collections.abc import Sequence

import numpy as np
from scipy import optimize, special

from app.numeric.activations import Array
from app.numeric.inversion.continuous import Moves
from app.numeric.inversion.question import Conditions, Question
from app.numeric.inversion.wishes import LogOdds
from app.numeric.layer import Layer
from tests.numeric.inversion.oracles import minimize, unit_rows

# What a search takes for held; it is asked for better.
HELD = 1e-8


def costs_in(moves: Moves, d: Array) -> Array:
    """The cost of each number's change."""
    return np.asarray(np.where(d > 0.0, moves.cost_up, moves.cost_down) * np.abs(d))


def odds_at(layer: Layer, x: Array, output: int) -> float:
    """log p - log(1 - p) of one output of softmax."""
    z = layer.w @ x + layer.b
    return float(z[output] - special.logsumexp(np.delete(z, output)))


def sequential_quadratic(
    moves: Moves,
    start: Array,
    *,
    layer: Layer | None = None,
    at: Array | None = None,
    curved: Sequence[LogOdds] = (),
    method: str = "SLSQP",
) -> Array | None:
    """The d of smallest square that a search from `start` finds, None if what it gives is no d.

    With a layer, `at` + d is its x, and the probabilities of `curved` are at least what they say.
    """
    rows = unit_rows(moves)
    constraints: list[object] = _linear(rows)
    floors = [wish for wish in curved if layer is not None]

    def odds(d: Array) -> Array:
        assert layer is not None
        assert at is not None
        return np.array([odds_at(layer, at + d, wish.output) - wish.low for wish in floors])

    if floors:
        constraints.append(optimize.NonlinearConstraint(odds, 0.0, np.inf))

    def square(d: Array) -> float:
        return 0.5 * float(np.square(costs_in(moves, d)).sum())

    def slope(d: Array) -> Array:
        return np.asarray(np.where(d > 0.0, moves.cost_up, moves.cost_down) ** 2 * d)

    options = {"ftol": 1e-14} if method == "SLSQP" else {"gtol": 1e-10, "xtol": 1e-12}
    with warnings.catch_warnings():
        # Of rows that depend on each other, and of quadratic models that stand still.
        warnings.simplefilter("ignore")
        try:
            found = minimize(
                square,
                np.clip(start, moves.d_low, moves.d_high),
                jac=slope,
                method=method,
                bounds=optimize.Bounds(moves.d_low, moves.d_high),
                constraints=constraints,
                options=options | {"maxiter": 300},
            )
        except ValueError:
            # trust-constr cannot have more equations than are independent.
            if method != "trust-constr":
                raise
            return None
    d: Array = np.clip(found.x, moves.d_low, moves.d_high)
    value = rows.a @ d
    size = HELD * (1.0 + np.abs(rows.a) @ np.abs(d))
    held = (value >= rows.low - size).all() and (value <= rows.high + size).all()
    if not held or (floors and (odds(d) < -HELD).any()):
        return None
    return d


def _linear(rows: Moves | Conditions) -> list[object]:
    """Equations apart, as SciPy wishes, and nothing of what is open on both sides."""
    equal = rows.low == rows.high
    bounded = ~equal & (np.isfinite(rows.low) | np.isfinite(rows.high))
    return [
        optimize.LinearConstraint(rows.a[some], rows.low[some], rows.high[some])
        for some in (equal, bounded)
        if some.any()
    ]


def climbed(layer: Layer, question: Question, output: int, start: Array) -> float:
    """The largest probability that SLSQP finds; its log-odds are concave."""
    numbers, conditions = question.numbers, question.conditions
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = minimize(
            lambda x: -odds_at(layer, x, output),
            np.clip(start, numbers.low, numbers.high),
            method="SLSQP",
            bounds=optimize.Bounds(numbers.low, numbers.high),
            constraints=_linear(conditions),
            options={"ftol": 1e-14, "maxiter": 300},
        )
    return float(special.expit(-found.fun))
