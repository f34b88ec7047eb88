"""Problems and plans that the tests of the numeric core share."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from app.numeric.activations import ACTIVATIONS, Array
from app.numeric.costs import COSTS
from app.numeric.layer import Layer
from app.numeric.method import Settings
from app.numeric.rows import Block, Rows, rows_of
from app.numeric.training import Progress, TrainingData, TrainingPlan, train

PAIRS = [
    (activation, cost)
    for activation in ACTIVATIONS
    for cost, row in COSTS.items()
    if row.activations is None or activation in row.activations
]
PLAN = TrainingPlan(
    activation="identity",
    cost="half_squared_error",
    solver="momentum",
    settings=Settings(epochs=500, tolerance=1e-8),
    max_seconds=60.0,
)


def random_layer(seed: int, *, outputs: int, inputs: int, activation: str) -> Layer:
    random = np.random.default_rng(seed)
    w = random.normal(size=(outputs, inputs)) / np.sqrt(inputs)
    return Layer(w, random.normal(size=outputs), activation)


def allowed_targets(seed: int, rows: int, outputs: int, activation: str, cost: str) -> Array:
    """Targets that the cost allows, both ends included where they are finite."""
    draw = np.random.default_rng(seed).normal(size=(rows, outputs))
    if activation == "softmax":
        classes: Array = np.eye(outputs)[np.abs(draw).argmax(axis=1)]
        return classes if seed % 2 else 0.9 * classes + 0.1 / outputs
    allowed = COSTS[cost].target_range(ACTIVATIONS[activation])
    return np.clip(draw, allowed.low, allowed.high)


def data_of(x: Array, y: Array, weight: Array | None = None) -> TrainingData:
    return TrainingData(rows_of(x, y, weight))


def settings_of(plan: TrainingPlan, **changes: Any) -> TrainingPlan:
    """The plan with some of its solver's settings changed."""
    return plan._replace(settings=plan.settings._replace(**changes))


def in_blocks(rows: Rows, size: int) -> Rows:
    """The same rows in small blocks made anew every time, as a streamed file gives them."""

    def blocks() -> Iterator[Block]:
        for x, y, weight in rows.blocks():
            for start in range(0, x.shape[1], size):
                part = slice(start, start + size)
                yield Block(
                    x[:, part].copy(),
                    y[:, part].copy(),
                    None if weight is None else weight[part].copy(),
                )

    return rows._replace(block_rows=size, in_memory=False, blocks=blocks)


def trained(data: TrainingData, plan: TrainingPlan) -> list[Progress]:
    return list(train(data, plan))
