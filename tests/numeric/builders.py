"""Problems and plans that the tests of the numeric core share."""

import numpy as np

from app.numeric.activations import ACTIVATIONS, Array
from app.numeric.costs import COSTS
from app.numeric.layer import Layer
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
    solver="gradient_descent",
    learning_rate=None,
    batch_size=None,
    momentum=0.9,
    epochs=500,
    tolerance=1e-8,
    l2=0.0,
    patience=None,
    min_delta=0.0,
    max_seconds=60.0,
    seed=0,
)


def random_layer(seed: int, *, outputs: int, inputs: int, activation: str) -> Layer:
    random = np.random.default_rng(seed)
    w = random.normal(size=(outputs, inputs)) / np.sqrt(inputs)
    return Layer(w, random.normal(size=outputs), activation)


def allowed_targets(seed: int, rows: int, outputs: int, activation: str, cost: str) -> Array:
    """Targets in the range that the cost allows, both ends included where it is finite."""
    allowed = COSTS[cost].target_range(ACTIVATIONS[activation])
    draw = np.random.default_rng(seed).normal(size=(rows, outputs))
    return np.clip(draw, allowed.low, allowed.high)


def data_of(x: Array, y: Array) -> TrainingData:
    return TrainingData(x, y, x[:0], y[:0])


def trained(data: TrainingData, plan: TrainingPlan) -> list[Progress]:
    return list(train(data, plan))
