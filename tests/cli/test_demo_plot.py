"""Curves in characters keep to their place, and say what the numbers say."""

from itertools import zip_longest

import numpy as np
import pytest
from numpy.typing import NDArray

from app.cli import plot
from app.cli.plot import Curve, Pens

EPOCHS = np.arange(50)
FALLING = 10.0 / (1 + EPOCHS)


def drawn(*values: NDArray[np.float64], pens: Pens = plot.UNICODE, columns: int = 60) -> list[str]:
    """The lines of a plot of one curve or two, the first with the light pen."""
    curves = [
        Curve("curve", EPOCHS, y, pen)
        for y, pen in zip(values, (pens.light, pens.heavy), strict=False)
    ]
    lines = plot.plot(curves, columns=columns, x_name="epoch", axis=pens.axis)
    return [line.plain for line in lines]


def body(lines: list[str]) -> list[str]:
    """What lies to the right of the axis."""
    return [line.partition("│")[2] for line in lines[1 : plot.LINES + 1]]


@pytest.mark.parametrize("columns", [20, 60, 100])
def test_a_plot_has_the_width_it_was_given(columns: int) -> None:
    assert max(map(len, drawn(FALLING, columns=columns))) == columns


def test_a_curve_goes_from_its_highest_to_its_lowest_value() -> None:
    _, top, *middle, axis, foot = drawn(FALLING)

    assert top.startswith(" 10.00 │─")
    assert middle[-1].startswith("0.2000 │")
    assert middle[-1].endswith("──")
    assert len(middle) == plot.LINES - 1
    assert set(axis.strip()) == {"└", "─"}
    assert foot.split() == ["0", "epoch", "49"]


def test_the_later_curve_lies_on_top() -> None:
    assert set("".join(body(drawn(FALLING, FALLING)))) <= set(" ━┓┗┃")


def test_a_rising_curve_turns_the_other_way() -> None:
    assert set("".join(body(drawn(-FALLING)))) <= set(" ─╯╭│")


def test_ascii_is_enough() -> None:
    assert "".join(drawn(FALLING, FALLING, pens=plot.ASCII)).isascii()


def test_what_is_not_finite_leaves_a_gap() -> None:
    broken = np.where(EPOCHS == 25, np.nan, 1.0 + EPOCHS)

    lines = body(drawn(broken))

    columns = ["".join(column).strip() for column in zip_longest(*lines, fillvalue=" ")]
    inside = [number for number, column in enumerate(columns) if not column]
    assert inside
    assert 0.45 < inside[0] / len(columns) < inside[-1] / len(columns) < 0.55


def test_nothing_finite_is_an_empty_plot() -> None:
    assert not "".join(body(drawn(np.full(50, np.nan)))).strip()


def test_a_constant_curve_is_level() -> None:
    assert set("".join(body(drawn(np.ones(50))))) == {"─"}
