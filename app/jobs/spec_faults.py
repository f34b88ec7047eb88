"""What can be wrong with a training spec beside its table: every check that needs no training."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from app.datasets.columns import CategoricalColumn, Column, NumericColumn
from app.errors import Fault
from app.jobs.training_spec import TrainingSpec
from app.numeric.activations import ACTIVATIONS, OutputRange
from app.numeric.costs import COSTS
from app.numeric.solvers import Problem, unsuitable
from app.numeric.split import METHODS
from app.settings import Settings

COLUMNS_NAMED_MAX = 20


class Question(NamedTuple):
    """A spec with what was decided for it; `labels`: its target is a column of labels."""

    spec: TrainingSpec
    columns: Mapping[str, Column]
    inputs: Sequence[str]
    labels: bool
    activation: str
    cost: str
    solver: str
    problem: Problem
    row_count: int
    multiply_adds: int


def faults(question: Question, settings: Settings) -> list[Fault]:
    """All that were found, in the order of the fields."""
    return [
        *target_faults(question, settings),
        *input_faults(question, settings),
        *method_faults(question),
        *split_faults(question),
        *weight_faults(question),
        *size_faults(question, settings),
    ]


def target_faults(question: Question, settings: Settings) -> list[Fault]:
    targets = question.spec.targets
    found = duplicate_faults("targets", targets)
    for index, name in enumerate(targets):
        pointer = f"/targets/{index}"
        column = question.columns.get(name)
        if column is None:
            found.append(unknown_column(pointer, name, question.columns))
        elif column.missing:
            found.append(missing_target(pointer, column))
        elif question.labels:
            found += label_faults(question, pointer, column, settings)
        elif isinstance(column, CategoricalColumn):
            found.append(text_target(pointer, column))
        else:
            found += range_faults(question, pointer, column)
    return found


def label_faults(
    question: Question, pointer: str, column: Column, settings: Settings
) -> Iterator[Fault]:
    count = column.level_count if isinstance(column, CategoricalColumn) else column.distinct
    name = column.name
    if count < 2:
        detail = f"The target {name!r} has the same label in every row: nothing is to be learned."
        yield Fault(detail, pointer, column=name)
    elif count > settings.levels_max:
        detail = (
            f"The target {name!r} has {count} different labels; at most {settings.levels_max} are "
            "allowed here."
        )
        yield Fault(detail, pointer, column=name)
    if question.spec.preprocessing.target_scaling != "none":
        detail = f"The target {name!r} holds labels, which have no scale: use 'none'."
        yield Fault(detail, "/preprocessing/target_scaling")


def text_target(pointer: str, column: CategoricalColumn) -> Fault:
    if column.first_text is not None:
        return Fault(
            f"The target {column.name!r} has a cell that is not a number: "
            f"{column.first_text.value!r}. Mend that cell and upload the table again.",
            pointer,
            column.first_text.row,
            column.name,
        )
    return Fault(
        f"The target {column.name!r} holds labels, and labels are learned alone: train a model "
        "for each such column.",
        pointer,
        column=column.name,
    )


def range_faults(question: Question, pointer: str, column: NumericColumn) -> list[Fault]:
    """Whether the layer can reach the target, on the scale that it learns."""
    if column.minimum is None or column.maximum is None:
        return [missing_target(pointer, column)]
    low, high = scaled_range(column, question.spec.preprocessing.target_scaling)
    allowed = allowed_targets(question)
    if allowed.contains(low) and allowed.contains(high):
        return []
    detail = (
        f"The target {column.name!r} goes from {low:g} to {high:g}, and {question.activation} "
        f"with {question.cost} can only reach {show(allowed)}. {remedy(allowed)}"
    )
    return [Fault(detail, pointer, column=column.name)]


def scaled_range(column: NumericColumn, scaling: str) -> tuple[float, float]:
    low, high = column.minimum or 0.0, column.maximum or 0.0
    if scaling == "min_max":
        return 0.0, float(low != high)
    if scaling == "standard":
        mean, sd = column.mean or 0.0, column.sd or 1.0
        return (low - mean) / sd, (high - mean) / sd
    return low, high


def allowed_targets(question: Question) -> OutputRange:
    return COSTS[question.cost].target_range(ACTIVATIONS[question.activation])


def remedy(allowed: OutputRange) -> str:
    if allowed.high == float("inf"):
        return "Use activation 'identity', or a target that is never negative."
    return (
        "Set preprocessing.target_scaling to 'min_max', or use activation 'identity' with cost "
        "'half_squared_error', which reaches every number."
    )


def show(allowed: OutputRange) -> str:
    left, right = "(" if allowed.low_open else "[", ")" if allowed.high_open else "]"
    return f"{left}{allowed.low:g}, {allowed.high:g}{right}"


def input_faults(question: Question, settings: Settings) -> list[Fault]:
    spec, inputs = question.spec, question.inputs
    if not inputs:
        return [Fault("No column is left to learn from.", "/inputs")]
    found = duplicate_faults("inputs", inputs)
    for index, name in enumerate(inputs):
        pointer = "/inputs" if spec.inputs is None else f"/inputs/{index}"
        column = question.columns.get(name)
        if column is None:
            found.append(unknown_column(pointer, name, question.columns))
        elif name in spec.targets:
            found.append(Fault(f"{name!r} is also a target.", pointer, column=name))
        elif name == spec.sample_weight:
            found.append(Fault(f"{name!r} is also the sample weight.", pointer, column=name))
        elif column.missing == question.row_count:
            detail = f"{name!r} has no value in any row: leave it out."
            found.append(Fault(detail, pointer, column=name))
        elif column.missing and spec.preprocessing.missing == "error":
            found.append(missing_input(pointer, column))
        elif isinstance(column, CategoricalColumn) and column.level_count > settings.levels_max:
            found.append(too_many_levels(pointer, column, settings))
    return found


def duplicate_faults(field: str, names: Sequence[str]) -> list[Fault]:
    seen: set[str] = set()
    found = []
    for index, name in enumerate(names):
        if name in seen:
            found.append(Fault(f"{name!r} is named twice.", f"/{field}/{index}", column=name))
        seen.add(name)
    return found


def unknown_column(pointer: str, name: str, columns: Mapping[str, Column]) -> Fault:
    known = ", ".join(list(columns)[:COLUMNS_NAMED_MAX])
    return Fault(f"The dataset has no column {name[:80]!r}. It has: {known}.", pointer)


def missing_target(pointer: str, column: Column) -> Fault:
    return Fault(
        f"The target {column.name!r} has {column.missing} missing cells, and nothing can be "
        "learned from a row without a target. Drop those rows and upload the table again.",
        pointer,
        column=column.name,
    )


def missing_input(pointer: str, column: Column) -> Fault:
    return Fault(
        f"{column.name!r} has {column.missing} missing cells. Set preprocessing.missing to "
        "'median', 'mean' or 'most_frequent' to fill them, or leave the column out.",
        pointer,
        column=column.name,
    )


def too_many_levels(pointer: str, column: CategoricalColumn, settings: Settings) -> Fault:
    return Fault(
        f"{column.name!r} has {column.level_count} different texts, and an input may have at most "
        f"{settings.levels_max}. If it names the rows, leave it out of `inputs`.",
        pointer,
        column=column.name,
    )


def method_faults(question: Question) -> list[Fault]:
    suited = COSTS[question.cost].activations
    if suited is not None and question.activation not in suited:
        detail = (
            f"The cost {question.cost} goes with activation {' or '.join(sorted(suited))}, not "
            f"with {question.activation}."
        )
        return [Fault(detail, "/cost")]
    reason = unsuitable(question.solver, question.problem)
    return [] if reason is None else [Fault(reason, "/solver/name")]


def split_faults(question: Question) -> list[Fault]:
    validation, rows = question.spec.validation, question.row_count
    method, pointer = METHODS[validation.method], "/validation/column"
    if method.uses_fraction and rows - round(validation.fraction * rows) < 1:
        detail = f"Of {rows} rows none would be left to train on."
        return [Fault(detail, "/validation/fraction")]
    name = validation.column
    if name is None:
        if method.column is None or method.column_optional:
            return []
        if method.column == "labels":
            if question.labels:
                return []
            detail = "Only a target of labels is stratified without naming a column of labels."
            return [Fault(detail, pointer)]
        detail = (
            f"The method {validation.method!r} needs the column that holds its {method.column}."
        )
        return [Fault(detail, pointer)]
    if method.column is None:
        return [Fault(f"The method {validation.method!r} reads no column: leave it out.", pointer)]
    column = question.columns.get(name)
    if column is None:
        return [unknown_column(pointer, name, question.columns)]
    if column.missing:
        detail = f"{name!r} has {column.missing} missing cells: where do those rows belong?"
        return [Fault(detail, pointer, column=name)]
    if method.column == "key" and isinstance(column, CategoricalColumn):
        detail = f"{name!r} holds text, and the order of time is told by a number."
        return [Fault(detail, pointer, column=name)]
    return []


def weight_faults(question: Question) -> Iterator[Fault]:
    spec = question.spec
    if spec.class_weight is not None and not question.labels:
        yield Fault("Only labels have class weights: leave it out.", "/class_weight")
    name, pointer = spec.sample_weight, "/sample_weight"
    if name is None:
        return
    column = question.columns.get(name)
    if column is None:
        yield unknown_column(pointer, name, question.columns)
    elif isinstance(column, CategoricalColumn):
        yield Fault(f"{name!r} holds text; a weight is a number.", pointer, column=name)
    elif column.missing or column.minimum is None or column.maximum is None:
        detail = f"{name!r} has {column.missing} missing cells; every row needs a weight."
        yield Fault(detail, pointer, column=name)
    elif column.minimum < 0 or column.maximum == 0:
        detail = f"{name!r} goes from {column.minimum:g} to {column.maximum:g}; weights are at "
        yield Fault(detail + "least 0, and not all of them 0.", pointer, column=name)
    elif name in spec.targets:
        yield Fault(f"{name!r} is also a target.", pointer, column=name)


def size_faults(question: Question, settings: Settings) -> Iterator[Fault]:
    problem = question.problem
    if problem.inputs * problem.outputs > settings.parameters_max:
        detail = (
            f"The layer would have {problem.inputs:,} x {problem.outputs:,} weights; at most "
            f"{settings.parameters_max:,} are allowed here."
        )
        yield Fault(detail, "/inputs")
    budget = min(settings.job_budget, settings.owner_budget)
    if question.multiply_adds > budget:
        epochs = question.spec.solver.epochs
        epochs_max = budget * epochs // question.multiply_adds
        remedy = f"at most {epochs_max:,} epochs, or " if epochs_max else ""
        detail = (
            f"Training may take {problem.rows:,} rows x {problem.inputs:,} encoded inputs x "
            f"{problem.outputs:,} outputs x {epochs:,} epochs = {question.multiply_adds:,} "
            f"multiply-adds; at most {budget:,} are allowed here. Ask for {remedy}fewer inputs or "
            "rows."
        )
        yield Fault(detail, "/solver/epochs")
