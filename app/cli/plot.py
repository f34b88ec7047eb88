"""Curves drawn with characters. Two of them differ by weight, so that no colour is needed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

FloatArray = NDArray[np.float64]
Cells = list[list[tuple[str, str]]]

LINES = 10  # the last of them gets a label, too
LABEL_EVERY_LINES = 3
COLUMNS_MIN = 10


class Pen(NamedTuple):
    """What draws a curve; a corner is named by the two of its sides that are open."""

    level: str
    left_below: str
    above_right: str
    left_above: str
    below_right: str
    upright: str
    style: str


class Pens(NamedTuple):
    heavy: Pen
    light: Pen
    axis: Pen


UNICODE = Pens(
    heavy=Pen("━", "┓", "┗", "┛", "┏", "┃", "cyan"),
    light=Pen("─", "╮", "╰", "╯", "╭", "│", "yellow"),
    axis=Pen("─", "┐", "└", "┘", "┌", "│", "dim"),
)
ASCII = Pens(
    heavy=Pen("#", "#", "#", "#", "#", "#", "cyan"),
    light=Pen(".", ".", ".", ".", ".", ".", "yellow"),
    axis=Pen("-", "+", "+", "+", "+", "|", "dim"),
)


class Curve(NamedTuple):
    """x ascending and y, both (N,); where y is not finite nothing is drawn."""

    name: str
    x: FloatArray | NDArray[np.int64]
    y: FloatArray
    pen: Pen


def plot(curves: Sequence[Curve], *, columns: int, x_name: str, axis: Pen) -> list[Text]:
    """The lines of a plot `columns` wide; a later curve is drawn over an earlier one."""
    low, high = span(curves)
    labels = [
        f"{value:#.4g}" if line % LABEL_EVERY_LINES == 0 else ""
        for line, value in enumerate(np.linspace(high, low, LINES))
    ]
    margin = max(map(len, labels)) + 1
    columns = max(columns - margin - 1, COLUMNS_MIN)
    x = np.linspace(curves[0].x[0], curves[0].x[-1], columns)
    cells: Cells = [[(" ", "")] * columns for _ in range(LINES)]
    for curve in curves:
        share = (high - np.interp(x, curve.x, curve.y)) / ((high - low) or 1.0)
        draw(cells, share * (LINES - 1), curve.pen)
    foot = f"{x[0]:g}{f'{x_name} {x[-1]:g}':>{columns - len(f'{x[0]:g}')}}"
    return [
        legend(curves, margin + 1),
        *(
            labelled(f"{label:>{margin - 1}} {axis.upright}", line, axis.style)
            for label, line in zip(labels, cells, strict=True)
        ),
        Text(" " * margin + axis.above_right + axis.level * columns, style=axis.style),
        Text(" " * (margin + 1) + foot, style=axis.style),
    ]


def span(curves: Sequence[Curve]) -> tuple[float, float]:
    """The least and the greatest value."""
    seen = np.concatenate([curve.y[np.isfinite(curve.y)] for curve in curves])
    return (float(seen.min()), float(seen.max())) if len(seen) else (0.0, 1.0)


def legend(curves: Sequence[Curve], margin: int) -> Text:
    line = Text(" " * margin)
    for curve in curves:
        line.append(curve.pen.level * 3, style=curve.pen.style).append(f" {curve.name}   ")
    line.rstrip()
    return line


def labelled(label: str, cells: list[tuple[str, str]], style: str) -> Text:
    text = Text().append(label, style=style)
    for character, cell_style in cells:
        text.append(character, style=cell_style)
    text.rstrip()
    return text


def draw(cells: Cells, heights: FloatArray, pen: Pen) -> None:
    """A curve through `heights`, counted in lines from above, one a column."""
    before: int | None = None
    for column, height in enumerate(heights):
        if not np.isfinite(height):
            before = None
            continue
        line = round(float(height))
        if before is None or before == line:
            cells[line][column] = (pen.level, pen.style)
        else:
            falls = line > before
            for between in range(min(line, before) + 1, max(line, before)):
                cells[between][column] = (pen.upright, pen.style)
            corner_before = pen.left_below if falls else pen.left_above
            corner_here = pen.above_right if falls else pen.below_right
            cells[before][column] = (corner_before, pen.style)
            cells[line][column] = (corner_here, pen.style)
        before = line
