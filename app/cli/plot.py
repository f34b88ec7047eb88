"""Curves drawn with characters. Two of them differ by weight, so that no colour is needed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

FloatArray = NDArray[np.float64]
Cells = list[list[tuple[str, str]]]

LINES = 12
LABEL_EVERY_LINES = 3
LABEL_COLUMNS = 5


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
    columns = max(columns - LABEL_COLUMNS - 2, 10)
    x = np.linspace(curves[0].x[0], curves[0].x[-1], columns)
    heights = [np.interp(x, curve.x, curve.y) for curve in curves]
    seen = np.concatenate([height[np.isfinite(height)] for height in heights])
    low, high = (float(seen.min()), float(seen.max())) if len(seen) else (0.0, 1.0)
    cells: Cells = [[(" ", "")] * columns for _ in range(LINES)]
    for curve, height in zip(curves, heights, strict=True):
        draw(cells, (high - height) / ((high - low) or 1.0) * (LINES - 1), curve.pen)
    lines = [legend(curves)]
    lines += [
        labelled(cells[line], high - (high - low) * line / (LINES - 1), line, axis)
        for line in range(LINES)
    ]
    foot = f"{x[0]:g}{f'{x_name} {x[-1]:g}':>{columns - len(f'{x[0]:g}')}}"
    margin = " " * (LABEL_COLUMNS + 2)
    lines.append(Text(margin[:-1] + axis.above_right + axis.level * columns, style=axis.style))
    lines.append(Text(margin + foot, style=axis.style))
    return lines


def legend(curves: Sequence[Curve]) -> Text:
    line = Text(" " * (LABEL_COLUMNS + 2))
    for curve in curves:
        line.append(curve.pen.level * 3, style=curve.pen.style).append(f" {curve.name}   ")
    line.rstrip()
    return line


def labelled(cells: list[tuple[str, str]], value: float, line: int, axis: Pen) -> Text:
    label = f"{value:#.4g}" if line % LABEL_EVERY_LINES == 0 else ""
    text = Text().append(f"{label:>{LABEL_COLUMNS}} {axis.upright}", style=axis.style)
    for character, style in cells:
        text.append(character, style=style)
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
