"""From what was asked to what will be done: every choice that can be made before training.

All mistakes are collected, so that a caller mends a spec once and not field by field.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from app.datasets.columns import CategoricalColumn, Column
from app.errors import InvalidSpec
from app.jobs import spec_faults
from app.jobs.training_spec import (
    ResolvedRegularization,
    ResolvedSolver,
    ResolvedSpec,
    TrainingSpec,
)
from app.numeric.solvers import SOLVERS, Problem, choose_solver
from app.numeric.split import METHODS
from app.settings import Settings

NAME_LENGTH_MAX = 200
# Mini-batches hold the rows twice more: row-major, and in the order of the epoch.
MINI_BATCH_COPIES = 3
# Fields of a spec that may be left open.
DECIDED = {"name", "inputs", "activation", "cost", "solver", "regularization"}
EXPLICIT = {
    "learning_rate": "auto",
    "batch_size": "auto",
    "momentum": "auto",
    "schedule": None,
    "clip_norm": None,
}

Task = Literal["regression", "classification"]


class Resolution(NamedTuple):
    """A spec beside the table it is for, and what was decided so far."""

    spec: TrainingSpec
    columns: dict[str, Column]
    inputs: list[str]
    task: Task
    activation: str
    cost: str
    problem: Problem

    @property
    def training_bytes(self) -> int:
        """What the rows take in memory, encoded."""
        itemsize = 4 if self.spec.dtype == "float32" else 8
        copies = MINI_BATCH_COPIES if "batch_size" in self.problem.options else 1
        return self.problem.rows * (self.problem.side + self.problem.outputs) * itemsize * copies

    @property
    def multiply_adds(self) -> int:
        """Of the products with w, if training takes all of its epochs."""
        problem = self.problem
        return problem.rows * problem.inputs * problem.outputs * self.spec.solver.epochs


def resolve(
    spec: TrainingSpec, columns: Sequence[Column], row_count: int, settings: Settings
) -> ResolvedSpec:
    """The spec with its defaults decided. Raises InvalidSpec with every fault that was found."""
    by_name = {column.name: column for column in columns}
    found = decided(spec, by_name, row_count)
    in_memory = found.training_bytes <= settings.training_bytes_max
    found = found._replace(problem=found.problem._replace(in_memory=in_memory))
    solver, reason = chosen_solver(found)
    faults = spec_faults.faults(
        spec_faults.Question(
            spec=spec,
            columns=by_name,
            inputs=found.inputs,
            labels=found.task == "classification",
            activation=found.activation,
            cost=found.cost,
            solver=solver,
            problem=found.problem,
            row_count=row_count,
            multiply_adds=found.multiply_adds,
        ),
        settings,
    )
    if faults:
        detail = faults[0].detail if len(faults) == 1 else f"{len(faults)} things need mending."
        raise InvalidSpec(detail, faults)
    return ResolvedSpec(
        **spec.model_dump(exclude=DECIDED),
        name=spec.name or ", ".join(spec.targets)[:NAME_LENGTH_MAX],
        inputs=found.inputs,
        activation=found.activation,
        cost=found.cost,
        solver=ResolvedSolver(**resolved_solver(spec, solver, reason)),
        regularization=resolved_regularization(found),
        task=found.task,
        in_memory=in_memory,
        multiply_adds=found.multiply_adds,
    )


def decided(spec: TrainingSpec, columns: dict[str, Column], row_count: int) -> Resolution:
    """What can be said before any check; an unknown name counts for nothing yet."""
    inputs = chosen_inputs(spec, columns)
    task = chosen_task(spec, columns)
    labels = label_count(columns[spec.targets[0]]) if task == "classification" else 0
    activation = chosen_activation(spec, labels)
    if task == "classification":
        outputs = 1 if labels == 2 and activation != "softmax" else labels
    else:
        outputs = len(spec.targets)
    held_out = spec.validation.fraction if METHODS[spec.validation.method].uses_fraction else 0.0
    problem = Problem(
        activation=activation,
        cost=chosen_cost(spec, activation),
        rows=max(row_count - round(held_out * row_count), 1),
        inputs=sum(encoded_width(columns[name]) for name in inputs if name in columns),
        outputs=outputs,
        scaled=spec.preprocessing.scaling != "none",
        sparse_penalty=bool(spec.regularization.l1) or spec.regularization.non_negative,
        options=frozenset(
            name
            for name, default in EXPLICIT.items()
            if getattr(spec.solver, name) not in (default, "full")
        ),
    )
    return Resolution(spec, columns, inputs, task, activation, problem.cost, problem)


def chosen_inputs(spec: TrainingSpec, columns: dict[str, Column]) -> list[str]:
    """Those asked for; else every column that has no other part to play."""
    if spec.inputs is not None:
        return spec.inputs
    taken = {*spec.targets, spec.sample_weight, spec.validation.column}
    return [name for name in columns if name not in taken]


def chosen_task(spec: TrainingSpec, columns: dict[str, Column]) -> Task:
    """Texts are labels; so are numbers where only labels make sense of what was asked."""
    column = columns.get(spec.targets[0])
    if len(spec.targets) > 1 or column is None:
        return "regression"
    if isinstance(column, CategoricalColumn):
        return "regression" if column.first_text else "classification"
    if column.minimum is None or column.maximum is None:
        return "regression"
    beyond = column.minimum < 0 or column.maximum > 1
    asks_for_labels = spec.activation == "softmax" or (
        spec.cost == "cross_entropy"
        and beyond
        and (spec.activation == "auto" or column.distinct == 2)
    )
    return "classification" if asks_for_labels else "regression"


def chosen_activation(spec: TrainingSpec, labels: int) -> str:
    if spec.activation != "auto":
        return spec.activation
    if labels:
        return "sigmoid" if labels == 2 else "softmax"
    return {"cross_entropy": "sigmoid", "poisson": "exp"}.get(spec.cost, "identity")


def chosen_cost(spec: TrainingSpec, activation: str) -> str:
    """Labels and several shares take cross_entropy; a single share may be a number like others."""
    if spec.cost != "auto":
        return spec.cost
    if activation == "softmax" or (activation == "sigmoid" and spec.activation == "auto"):
        return "cross_entropy"
    return "half_squared_error"


def chosen_solver(found: Resolution) -> tuple[str, str]:
    if found.spec.solver.name == "auto":
        return choose_solver(found.problem)
    return found.spec.solver.name, "It was asked for."


def resolved_solver(spec: TrainingSpec, solver: str, reason: str) -> dict[str, Any]:
    values = spec.solver.model_dump() | {"name": solver, "reason": reason}
    if SOLVERS[solver].first_order and spec.solver.batch_size == "auto":
        values["batch_size"] = "full"
    if "momentum" in SOLVERS[solver].options and spec.solver.momentum == "auto":
        values["momentum"] = 0.9
    return values


def resolved_regularization(found: Resolution) -> ResolvedRegularization:
    """Labels that can be told apart have no best layer without a penalty, so they get one."""
    asked = found.spec.regularization
    l2 = asked.l2
    if l2 == "auto":
        l2 = 1.0 / found.problem.rows if found.cost == "cross_entropy" and not asked.l1 else 0.0
    return ResolvedRegularization(**(asked.model_dump() | {"l2": l2}))


def label_count(column: Column) -> int:
    return column.level_count if isinstance(column, CategoricalColumn) else column.distinct


def encoded_width(column: Column) -> int:
    """Columns of the encoded table: one a level, and one that says where a cell is missing."""
    width = column.level_count if isinstance(column, CategoricalColumn) else 1
    return width + bool(column.missing)
