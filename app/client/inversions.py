"""What invert answers, as plain frozen values."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .results import FloatArray, Value, floats, known


@dataclass(frozen=True)
class Change:
    """`delta` is None for a category; `cost` is what the change adds to that of the solution."""

    feature: str
    start: Value
    to: Value
    delta: float | None
    cost: float = 0.0


@dataclass(frozen=True)
class Distance:
    """In units of training scale, whatever changes cost; a change of category counts 1."""

    l1: float
    l2: float
    linf: float
    changed: int


@dataclass(frozen=True)
class Limit:
    """A limit that holds back; the cost (or the miss) falls by `price` if it gives way by one."""

    limit: str
    value: float
    price: float


@dataclass(frozen=True)
class Robustness:
    """How far every number, or w and b, may be off; None where nothing that large could do harm."""

    input_rounding: float | None
    weight_change: float | None


@dataclass(frozen=True)
class Solution:
    """An input, and what predict says of exactly this input; `verified`: that meets the target.

    `binding` was asked for by "duals".
    """

    input: dict[str, Value]
    changes: tuple[Change, ...]
    prediction: dict[str, float]
    verified: bool
    cost: float
    distance: Distance
    in_training_range: bool
    text: str
    robustness: Robustness
    label: str | None = None
    binding: tuple[Limit, ...] | None = None


@dataclass(frozen=True)
class Interval:
    """None at an end that is open; where it is not `exact`, the lower end is the lowest found."""

    min: float | None
    max: float | None
    exact: bool = True


@dataclass(frozen=True)
class Nearest:
    """The input that misses the target least."""

    input: dict[str, Value]
    prediction: dict[str, float]
    label: str | None = None


@dataclass(frozen=True)
class Contradiction:
    """Demands that cannot hold together; `smallest`: proved that no fewer are in conflict."""

    demands: tuple[str, ...]
    smallest: bool


@dataclass(frozen=True)
class Infeasibility:
    """What each output can reach within the limits, and what keeps the target out of reach.

    `nearest` is None where no input meets the limits at all, or time was over.
    """

    text: str
    attainable: dict[str, Interval]
    nearest: Nearest | None
    binding: tuple[Limit, ...]
    conflict: Contradiction | None = None


@dataclass(frozen=True)
class Trace:
    """The cost before the first step of an inversion and after each."""

    step: NDArray[np.int64]
    cost: FloatArray


@dataclass(frozen=True)
class Inversion:
    """`status` is optimal, feasible, infeasible (then `infeasibility` says why), unbounded,
    time_limit or step_limit.

    `gap` is the share of its cost that a better answer could save at most.
    """

    model_id: str
    model_version: int
    status: str
    method: str
    gap: float | None
    solutions: tuple[Solution, ...]
    infeasibility: Infeasibility | None = None
    trace: Trace | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Point:
    """One target of a frontier; cost and solution are None where there is no answer."""

    target: float
    status: str
    cost: float | None
    gap: float | None
    solution: Solution | None


@dataclass(frozen=True)
class Frontier:
    """What each of many targets of one output costs, in order."""

    model_id: str
    model_version: int
    output: str
    attainable: dict[str, Interval]
    points: tuple[Point, ...]

    @property
    def target(self) -> FloatArray:
        return np.array([point.target for point in self.points])

    @property
    def cost(self) -> FloatArray:
        """nan where there is no answer."""
        return np.array([np.nan if p.cost is None else p.cost for p in self.points])

    def __iter__(self) -> Iterator[Point]:
        return iter(self.points)

    def __len__(self) -> int:
        return len(self.points)


def read_inversion(answer: Any) -> Inversion:
    infeasibility, trace = answer.get("infeasibility"), answer.get("trace")
    return known(
        Inversion,
        answer,
        solutions=tuple(read_solution(item) for item in answer["solutions"]),
        infeasibility=None if infeasibility is None else read_infeasibility(infeasibility),
        trace=None if trace is None else read_trace(trace),
        warnings=tuple(answer.get("warnings", ())),
    )


def read_inversions(answer: Any) -> list[Inversion]:
    model = {name: answer[name] for name in ("model_id", "model_version")}
    return [read_inversion({**model, **result}) for result in answer["results"]]


def read_frontier(answer: Any) -> Frontier:
    points = tuple(
        known(
            Point,
            point,
            solution=None if point["solution"] is None else read_solution(point["solution"]),
        )
        for point in answer["frontier"]
    )
    return known(Frontier, answer, attainable=read_intervals(answer["attainable"]), points=points)


def read_solution(answer: Any) -> Solution:
    binding = answer.get("binding")
    return known(
        Solution,
        answer,
        changes=tuple(known(Change, item, start=item["from"]) for item in answer["changes"]),
        distance=known(Distance, answer["distance"]),
        robustness=known(Robustness, answer["robustness"]),
        binding=None if binding is None else read_limits(binding),
    )


def read_infeasibility(answer: Any) -> Infeasibility:
    nearest, conflict = answer["nearest"], answer.get("conflict")
    return known(
        Infeasibility,
        answer,
        attainable=read_intervals(answer["attainable"]),
        nearest=None if nearest is None else known(Nearest, nearest),
        binding=read_limits(answer["binding"]),
        conflict=None
        if conflict is None
        else known(Contradiction, conflict, demands=tuple(conflict["demands"])),
    )


def read_intervals(answer: Any) -> dict[str, Interval]:
    return {name: known(Interval, ends) for name, ends in answer.items()}


def read_limits(answer: Any) -> tuple[Limit, ...]:
    return tuple(known(Limit, limit) for limit in answer)


def read_trace(answer: Any) -> Trace:
    return Trace(step=np.array(answer["step"], dtype=np.int64), cost=floats(answer["cost"]))
