"""Linear regression on the Statistical Reference Datasets of NIST, whose answers are certified.

`digits` is the log relative error, the number of leading digits that are right, of the coefficient
that has the fewest; NIST certifies 15. Every file names its source.
"""

import math
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from app.numeric.activations import Array
from app.numeric.closed_form import least_squares
from app.numeric.rows import Rows, rows_of
from tests.numeric.regression import overwritten

FILES = sorted(Path(__file__).with_name("nist").glob("*.txt"))
DIGITS_MAX = 15.0
# Differences of less are rounding, which no method chooses.
NOISE_DIGITS = 0.5


class Dataset(NamedTuple):
    """Columns, y and the certified b, w1, w2, ... as the file writes them, in exact decimals."""

    x: list[list[Fraction]]
    y: list[Fraction]
    certified: list[Fraction]


def dataset(path: Path) -> Dataset:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    certified, *rows = ([Fraction(word) for word in line.split()] for line in lines)
    weights = len(certified) - 1
    if len(rows[0]) == weights + 1:
        x = [row[1:] for row in rows]
    else:
        x = [[row[1] ** power for power in range(1, weights + 1)] for row in rows]
    return Dataset(x, [row[0] for row in rows], certified)


def in_doubles(data: Dataset) -> tuple[Array, Array]:
    """What a program is given: columns and y, each value rounded to the nearest float64."""
    x = [[float(value) for value in row] for row in data.x]
    return np.array(x), np.array([float(value) for value in data.y])


def exact_solution(x: list[list[Fraction]], y: list[Fraction]) -> list[Fraction]:
    """b, w1, w2, ... by the normal equations, without any rounding."""
    design = [[Fraction(1), *row] for row in x]
    columns = [*zip(*design, strict=True), y]
    system = [
        [sum((a * b for a, b in zip(one, other, strict=True)), Fraction()) for other in columns]
        for one in columns[:-1]
    ]
    for pivot in range(len(system)):
        system[pivot] = [value / system[pivot][pivot] for value in system[pivot]]
        for row in range(len(system)):
            if row != pivot:
                factor = system[row][pivot]
                pairs = zip(system[row], system[pivot], strict=True)
                system[row] = [value - factor * other for value, other in pairs]
    return [row[-1] for row in system]


def exactly(x: Array, y: Array) -> list[Fraction]:
    """The exact solution for the doubles themselves: the most that a program can find."""
    columns = [[Fraction(float(value)) for value in row] for row in x]
    return exact_solution(columns, [Fraction(float(value)) for value in y])


def digits(found: list[Fraction], right: list[Fraction]) -> float:
    errors = [abs((one - other) / other) for one, other in zip(found, right, strict=True)]
    return min(min(DIGITS_MAX, -math.log10(error)) if error else DIGITS_MAX for error in errors)


def ours(rows: Rows) -> list[Fraction]:
    w_and_b = least_squares(rows, l2=0.0)[0]
    return [Fraction(float(value)) for value in np.roll(w_and_b, 1)]


def theirs(x: Array, y: Array, **options: float) -> list[Fraction]:
    model = LinearRegression(**options).fit(x, y)
    return [Fraction(float(value)) for value in (model.intercept_, *model.coef_)]


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def data(request: pytest.FixtureRequest) -> Dataset:
    return dataset(request.param)


def test_exact_arithmetic_on_the_files_confirms_the_certified_digits(data: Dataset) -> None:
    assert digits(exact_solution(data.x, data.y), data.certified) >= 14.0


def test_no_coefficient_has_fewer_digits_than_scikit_learn_gives_it(data: Dataset) -> None:
    x, y = in_doubles(data)

    found = digits(ours(rows_of(x, y[:, None])), data.certified)

    # The default tol takes columns of high powers for dependent: two digits at most, and none for
    # most; 0 is the best that it can be given.
    reference = max(
        digits(theirs(x, y), data.certified), digits(theirs(x, y, tol=0.0), data.certified)
    )
    assert found >= reference - (NOISE_DIGITS if reference > 9.0 else 0.0)
    assert found >= min(9.0, reference)


def test_twelve_digits_of_what_the_doubles_determine_are_right(data: Dataset) -> None:
    x, y = in_doubles(data)

    assert digits(ours(rows_of(x, y[:, None])), exactly(x, y)) >= 12.0


def test_rows_that_come_in_blocks_give_the_same_digits(data: Dataset) -> None:
    x, y = in_doubles(data)

    found = ours(overwritten(rows_of(x, y[:, None]), 5))

    assert digits(found, exactly(x, y)) >= 12.0


def test_as_many_of_the_certified_digits_as_float64_can_hold_are_right(data: Dataset) -> None:
    x, y = in_doubles(data)

    # Rounding the powers of Filip to float64 leaves 7.7 digits of its certified coefficients.
    possible = digits(exactly(x, y), data.certified)

    found = digits(ours(rows_of(x, y[:, None])), data.certified)
    assert found >= min(possible, 12.5) - NOISE_DIGITS


def test_weights_that_count_rows_twice_cost_no_digits(data: Dataset) -> None:
    x, y = in_doubles(data)
    times = 1 + np.arange(len(y)) % 2

    found = ours(rows_of(x, y[:, None], times.astype(np.float64)))

    assert digits(found, exactly(np.repeat(x, times, axis=0), np.repeat(y, times))) >= 12.0
