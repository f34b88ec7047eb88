"""Tables for regression, spoilt in the ways that tables are, and how they reach least squares."""

from collections.abc import Iterator

import numpy as np

from app.numeric.activations import Array
from app.numeric.closed_form import least_squares
from app.numeric.layer import Layer
from app.numeric.rows import Block, Rows, rows_of
from tests.numeric.builders import in_blocks


def problem(rows: int, inputs: int, *, outputs: int = 2, seed: int = 0) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, inputs)) + random.normal(size=inputs)
    y = x @ random.normal(size=(inputs, outputs)) + 3.0 + 0.5 * random.normal(size=(rows, outputs))
    return x, y


def solved(rows: Rows, *, l2: float = 0.0) -> Layer:
    parameters = least_squares(rows, l2=l2)
    return Layer(parameters[:, :-1], parameters[:, -1], "identity")


def fitted(x: Array, y: Array, weight: Array | None = None, *, l2: float = 0.0) -> Layer:
    return solved(rows_of(x, y, weight), l2=l2)


def duplicated(x: Array) -> Array:
    return np.column_stack((x, x[:, 0], x[:, 1]))


def with_constants(x: Array) -> Array:
    return np.column_stack((x, np.full(len(x), 0.1), np.zeros(len(x))))


def badly_scaled(x: Array) -> Array:
    return x * np.logspace(-6, 6, x.shape[1])


def far_from_zero(x: Array) -> Array:
    return x + 1e6


def unchanged(x: Array) -> Array:
    return x


SPOILS = [duplicated, with_constants, badly_scaled, far_from_zero]


def overwritten(rows: Rows, size: int) -> Rows:
    """The same rows in small blocks, each of which is spoilt when the next one is asked for."""
    parts = in_blocks(rows, size)

    def blocks() -> Iterator[Block]:
        for block in parts.blocks():
            yield block
            for array in block:
                if array is not None:
                    array[...] = np.nan

    return parts._replace(blocks=blocks)
