"""What is wanted of the outputs, as conditions on x.

Every sigma but softmax works on each output alone and never falls, so y in [low, high] says that
z = w x + b lies in an interval: linear in x. Of softmax, log p_j - log(1 - p_j) is z_j less the
log-sum-exp of the others: a concave function of x, of which tangents are conditions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from app.numeric.activations import ACTIVATIONS, Activation, Array
from app.numeric.errors import OutOfRange
from app.numeric.inversion.question import Conditions
from app.numeric.layer import Layer

# A label is told from another from here on, in z.
LEAD_MIN = 1e-6
# Probabilities that sum to 1 no better than this are those of no x: a row that never holds.
SUM_REACHED = 1e-9
# Ends of intervals are kept by this share of their size, so that rounding does not pass them.
KEPT = 1e-11


class Wish(NamedTuple):
    """That an output lies in [low, high], in the units of sigma; infinite ends are open."""

    output: int
    low: float
    high: float
    weight: float = 1.0


class ClassWish(NamedTuple):
    """That a class is predicted, with a lead of `margin` in z over every other.

    One output tells the second of two classes, above `threshold`. With a `probability`, the class
    has at least that.
    """

    winner: int
    margin: float = 0.0
    probability: float | None = None
    threshold: float = 0.5
    weight: float = 1.0


class LogOdds(NamedTuple):
    """low <= log p_j - log(1 - p_j) <= high of one output j of softmax."""

    output: int
    low: float
    high: float


class Wanted(NamedTuple):
    """All wishes: those that are linear, with the weight of each (r,), and the others."""

    conditions: Conditions
    weights: Array
    curved: tuple[LogOdds, ...]


def z_interval(sigma: Activation, output: int, low: float, high: float) -> tuple[float, float]:
    """The z for which sigma(z) lies in [low, high].

    Raises OutOfRange for an interval that lies beyond what sigma takes.
    """
    allowed = sigma.output_range
    if low > allowed.high or (low == allowed.high and allowed.high_open):
        raise OutOfRange(output, low, allowed.low, allowed.high)
    if high < allowed.low or (high == allowed.low and allowed.low_open):
        raise OutOfRange(output, high, allowed.low, allowed.high)
    z_low = -np.inf if low <= allowed.low else float(_inverse(sigma, low))
    z_high = np.inf if high >= allowed.high else float(_inverse(sigma, high))
    return z_low, z_high


def wanted_of(layer: Layer, wishes: Sequence[Wish | ClassWish]) -> Wanted:
    """The wishes as conditions. Raises OutOfRange for one that no x fulfils."""
    rows: list[tuple[Array, float, float, float]] = []
    curved: list[LogOdds] = []
    plain = [wish for wish in wishes if isinstance(wish, Wish)]
    if ACTIVATIONS[layer.activation].elementwise:
        sigma = ACTIVATIONS[layer.activation]
        for one in plain:
            low, high = _kept(*z_interval(sigma, one.output, one.low, one.high))
            row = (layer.w[one.output], low, high, one.weight)
            rows.append(_less(row, layer.b[one.output]))
    else:
        _require_probabilities(layer, plain)
        if _contradict(len(layer.b), wishes):
            rows.append((np.zeros(layer.w.shape[1]), 1.0, np.inf, 1.0))
        else:
            curved = _softmax_wishes(layer, plain, rows)
    for wish in wishes:
        if isinstance(wish, ClassWish):
            curved += _class_wish(layer, wish, rows)
    width = layer.w.shape[1]
    return Wanted(
        Conditions(
            np.array([row[0] for row in rows]).reshape(-1, width),
            np.array([row[1] for row in rows]),
            np.array([row[2] for row in rows]),
        ),
        np.array([row[3] for row in rows]),
        tuple(curved),
    )


def log_odds(layer: Layer, x: Array, output: int) -> tuple[float, Array]:
    """log p_j - log(1 - p_j) of softmax at x (n,), and its slope in x."""
    z = layer.w @ x + layer.b
    others = np.arange(len(z)) != output
    value = float(z[output] - special.logsumexp(z[others]))
    slope = layer.w[output] - special.softmax(z[others]) @ layer.w[others]
    return value, slope


def _require_probabilities(layer: Layer, wishes: Sequence[Wish]) -> None:
    """Raises OutOfRange for a wish that no probability of softmax fulfils."""
    allowed = ACTIVATIONS[layer.activation].output_range
    for wish in wishes:
        if wish.low >= allowed.high or wish.high <= allowed.low:
            end = wish.low if wish.low >= allowed.high else wish.high
            raise OutOfRange(wish.output, end, allowed.low, allowed.high)


def _contradict(outputs: int, wishes: Sequence[Wish | ClassWish]) -> bool:
    """Whether probabilities that sum to 1 cannot be what is wanted of each."""
    low, high = np.zeros(outputs), np.ones(outputs)
    for wish in wishes:
        if isinstance(wish, Wish):
            low[wish.output] = max(low[wish.output], wish.low)
            high[wish.output] = min(high[wish.output], wish.high)
        else:
            # Of all classes the one that is predicted has its share at least.
            least = max(wish.probability or 0.0, 1.0 / outputs)
            low[wish.winner] = max(low[wish.winner], least)
    together = max(low.sum() - 1.0, 1.0 - high.sum())
    return bool(max(together, float((low - high).max())) > SUM_REACHED)


def _completed(wishes: Sequence[Wish], outputs: int) -> list[Wish]:
    """With the last probability where all others are given as values: it is what they leave."""
    completed = list(wishes)
    missing = set(range(outputs)) - {wish.output for wish in wishes}
    left = 1.0 - sum(wish.low for wish in wishes)
    if len(missing) == 1 and left > 0.0 and all(wish.low == wish.high for wish in wishes):
        completed.append(Wish(missing.pop(), left, left))
    return completed


def _softmax_wishes(
    layer: Layer, wishes: Sequence[Wish], rows: list[tuple[Array, float, float, float]]
) -> list[LogOdds]:
    """Rows where all probabilities are given or there are two; else what is curved."""
    m = len(layer.b)
    whole = _completed(wishes, m) if m > 2 else wishes
    if len(whole) == m and all(wish.low == wish.high for wish in whole):
        y = np.array([wish.low for wish in sorted(whole, key=lambda wish: wish.output)])
        z = np.log(y)
        for j in range(1, m):
            right = z[j] - z[0] - (layer.b[j] - layer.b[0])
            rows.append((layer.w[j] - layer.w[0], right, right, 1.0))
        return []
    curved = []
    for wish in wishes:
        low, high = (float(special.logit(min(max(end, 0.0), 1.0))) for end in (wish.low, wish.high))
        low, high = _kept(low, high)
        if m == 2:
            other = 1 - wish.output
            row = (layer.w[wish.output] - layer.w[other], low, high, wish.weight)
            rows.append(_less(row, layer.b[wish.output] - layer.b[other]))
        else:
            curved.append(LogOdds(wish.output, low, high))
    return curved


def _class_wish(
    layer: Layer, wish: ClassWish, rows: list[tuple[Array, float, float, float]]
) -> list[LogOdds]:
    margin = max(wish.margin, LEAD_MIN)
    m = len(layer.b)
    if m == 1:
        sigma = ACTIVATIONS[layer.activation]
        z = float(_inverse(sigma, wish.threshold))
        low, high = (z + margin, np.inf) if wish.winner else (-np.inf, z - margin)
        if wish.probability is not None:
            share = wish.probability if wish.winner else 1.0 - wish.probability
            end = float(_inverse(sigma, share))
            least, most = _kept(*((end, np.inf) if wish.winner else (-np.inf, end)))
            low, high = max(low, least), min(high, most)
        rows.append(_less((layer.w[0], low, high, wish.weight), layer.b[0]))
        return []
    least = -np.inf
    if wish.probability is not None:
        least = _kept(float(special.logit(wish.probability)), np.inf)[0]
    # Of two classes the lead is the log-odds.
    lead = max(margin, least) if m == 2 else margin
    for other in range(m):
        if other != wish.winner:
            row = (layer.w[wish.winner] - layer.w[other], lead, np.inf, wish.weight)
            rows.append(_less(row, layer.b[wish.winner] - layer.b[other]))
    if m == 2 or wish.probability is None:
        return []
    return [LogOdds(wish.winner, least, np.inf)]


def _less(row: tuple[Array, float, float, float], b: float) -> tuple[Array, float, float, float]:
    a, low, high, weight = row
    return a, low - b, high - b, weight


def _kept(low: float, high: float) -> tuple[float, float]:
    """The interval a little smaller, or its middle; one point stays as it is."""
    if low == high:
        return low, high
    inner_low, inner_high = low + KEPT * (1.0 + abs(low)), high - KEPT * (1.0 + abs(high))
    low = inner_low if np.isfinite(low) else low
    high = inner_high if np.isfinite(high) else high
    return (low, high) if low <= high else (0.5 * (low + high), 0.5 * (low + high))


def _inverse(sigma: Activation, y: float) -> Array:
    """The largest z with sigma(z) = y; of relu, sigma is the identity where it rises."""
    value = np.asarray(y, dtype=np.float64)
    return value if sigma.inverse is None else np.asarray(sigma.inverse(value))
