"""What is minimised, and the one NumPy function that judges every contestant's parameters.

    mean over rows of C + l2/2 |w|^2, b free        Shapes: x (N, n), y (N, m), w (m, n), b (m,)

Nothing here is Backsolve's code: the judge must not share a mistake with the judged.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy import special

from bench._tables import Array, Table

DataArray = NDArray[Any]


class Task(NamedTuple):
    """`l2_sum` is the penalty beside the sum over rows, as scikit-learn counts: l2 is l2_sum / N.

    `group` is the word that --only takes; `batch_sizes` are those of the mini-batch race.
    """

    name: str
    group: str
    table: str
    activation: str
    cost: str
    l2_sum: float
    batch_sizes: tuple[int, ...] = ()


SOFTMAX = ("softmax", "cross_entropy")
LOGISTIC = ("sigmoid", "cross_entropy")
SIGMOID_SQUARED = ("sigmoid", "half_squared_error")
LINEAR = ("identity", "half_squared_error")

TASKS = (
    Task("iris softmax", "iris", "iris", *SOFTMAX, 1.0, (16,)),
    Task("iris sigmoid squared", "iris", "iris", *SIGMOID_SQUARED, 0.1),
    Task("iris scaled softmax", "iris", "iris scaled", *SOFTMAX, 1.0),
    Task("iris scaled sigmoid squared", "iris", "iris scaled", *SIGMOID_SQUARED, 0.1),
    Task("digits softmax", "digits", "digits", *SOFTMAX, 1.0, (32, 256)),
    Task("digits sigmoid squared", "digits", "digits", *SIGMOID_SQUARED, 0.1),
    Task("digits scaled softmax", "digits", "digits scaled", *SOFTMAX, 1.0),
    # No sigmoid squared on these: it has several minima, and which one is found is chance.
    Task("wide identity", "wide", "wide", *LINEAR, 0.0, (64, 512)),
    Task("tall identity", "tall", "tall", *LINEAR, 0.0, (256,)),
    Task("tall correlated identity", "tall", "tall correlated", *LINEAR, 0.0),
    Task("tall logistic", "tall", "tall classes", *LOGISTIC, 1.0),
    Task("tall correlated logistic", "tall", "tall correlated classes", *LOGISTIC, 1.0),
    Task("mnist softmax", "mnist", "mnist", *SOFTMAX, 10.0, (32, 128, 1024)),
)


class Problem(NamedTuple):
    """A task on arrays of one dtype, row-major."""

    task: Task
    x: DataArray
    y: DataArray
    l2: float

    @property
    def loss(self) -> str:
        """Activation and cost, the key of `LOSSES` and of the peers' own tables."""
        return f"{self.task.activation} {self.task.cost}"

    @property
    def dtype(self) -> str:
        return str(self.x.dtype)


def problem_of(task: Task, table: Table, dtype: DTypeLike) -> Problem:
    """The task on a table, cast to dtype; a table that has it already is not copied."""
    x, y = table.x.astype(dtype, copy=False), table.y.astype(dtype, copy=False)
    return Problem(task, x, y, task.l2_sum / len(table.x))


class Evaluation(NamedTuple):
    """The cost and dC/dP, (m, n + 1); the last column is that of b."""

    cost: float
    slope: Array


def evaluation(problem: Problem, parameters: Array) -> Evaluation:
    """Cost and slope at P (m, n + 1), computed in the dtype of the rows, summed in float64."""
    x, count = problem.x, len(problem.x)
    w = parameters[:, :-1]
    z = x @ w.T.astype(x.dtype)
    z += parameters[:, -1].astype(x.dtype)
    total, delta = LOSSES[problem.loss](z, problem.y)
    slope = np.empty_like(parameters)
    slope[:, :-1] = (delta.T @ x) / count + problem.l2 * w
    slope[:, -1] = delta.sum(axis=0, dtype=np.float64) / count
    return Evaluation(total / count + 0.5 * problem.l2 * float(np.square(w).sum()), slope)


def judged_cost(problem: Problem, parameters: Array) -> float:
    """The cost at P (m, n + 1), all in float64 whatever the dtype of the rows; nan stays nan."""
    total, w = 0.0, parameters[:, :-1]
    with np.errstate(all="ignore"):
        for first in range(0, len(problem.x), 4096):
            rows = slice(first, first + 4096)
            z = problem.x[rows].astype(np.float64) @ w.T + parameters[:, -1]
            total += LOSSES[problem.loss](z, problem.y[rows].astype(np.float64))[0]
    return total / len(problem.x) + 0.5 * problem.l2 * float(np.square(w).sum())


def start(problem: Problem) -> Array:
    """P (m, n + 1) that gives every row the mean target: where all but scikit-learn start."""
    parameters = np.zeros((problem.y.shape[1], problem.x.shape[1] + 1))
    mean = problem.y.mean(axis=0, dtype=np.float64)
    if problem.task.activation == "sigmoid":
        mean = special.logit(mean)
    elif problem.task.activation == "softmax":
        mean = np.log(mean)
    parameters[:, -1] = mean
    return parameters


def safe_rate(problem: Problem) -> float:
    """1 / (curvature of the cost x mean square length of a row): no batch diverges with it."""
    curvature = {"identity": 1.0, "softmax": 0.5, "sigmoid": 0.25}[problem.task.activation]
    square = np.einsum("ij,ij->", problem.x, problem.x, dtype=np.float64) / len(problem.x)
    return float(1.0 / (curvature * (1.0 + square)))


def _softmax_cross_entropy(z: DataArray, y: DataArray) -> tuple[float, DataArray]:
    z -= z.max(axis=1, keepdims=True)
    chosen = (z * y).sum(dtype=np.float64)
    np.exp(z, out=z)
    sums = z.sum(axis=1, keepdims=True)
    z /= sums
    z -= y
    return float(np.log(sums).sum(dtype=np.float64) - chosen), z


def _sigmoid_cross_entropy(z: DataArray, y: DataArray) -> tuple[float, DataArray]:
    cost = np.logaddexp(0, z) - y * z
    return float(cost.sum(dtype=np.float64)), special.expit(z) - y


def _sigmoid_squared(z: DataArray, y: DataArray) -> tuple[float, DataArray]:
    y_hat = special.expit(z)
    residual = y_hat - y
    cost = 0.5 * float(np.square(residual).sum(dtype=np.float64))
    return cost, residual * y_hat * (1 - y_hat)


def _identity_squared(z: DataArray, y: DataArray) -> tuple[float, DataArray]:
    residual = z - y
    return 0.5 * float(np.square(residual).sum(dtype=np.float64)), residual


# Each gives the sum over rows of C and dC/dz (N, m); z may be overwritten.
LOSSES: Mapping[str, Callable[[DataArray, DataArray], tuple[float, DataArray]]] = MappingProxyType(
    {
        "softmax cross_entropy": _softmax_cross_entropy,
        "sigmoid cross_entropy": _sigmoid_cross_entropy,
        "sigmoid half_squared_error": _sigmoid_squared,
        "identity half_squared_error": _identity_squared,
    }
)
