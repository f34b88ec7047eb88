"""From what was asked to what will be done: every check that needs no training.

All mistakes are collected, so that a caller mends a spec once and not field by field.
"""

from collections.abc import Sequence

from app.datasets.columns import CategoricalColumn, Column, NumericColumn
from app.errors import Fault, InvalidSpec
from app.jobs.training_spec import ResolvedSolver, ResolvedSpec, TrainingSpec
from app.numeric.activations import ACTIVATIONS, OutputRange
from app.numeric.costs import COSTS
from app.numeric.solvers import choose_solver, unsuitable
from app.settings import Settings

NAME_LENGTH_MAX = 200


def resolve(
    spec: TrainingSpec, columns: Sequence[Column], row_count: int, settings: Settings
) -> ResolvedSpec:
    """The spec with its defaults decided. Raises InvalidSpec with every fault that was found."""
    by_name = {column.name: column for column in columns}
    inputs = chosen_inputs(spec, columns)
    solver_name, reason = chosen_solver(spec)
    faults = [
        *target_faults(spec, by_name),
        *input_faults(spec, inputs, by_name, settings),
        *method_faults(spec, solver_name),
        *split_faults(spec, row_count),
        *size_faults(spec, inputs, by_name, row_count, settings),
    ]
    if faults:
        detail = faults[0].detail if len(faults) == 1 else f"{len(faults)} things need mending."
        raise InvalidSpec(detail, faults)
    solver = spec.solver.model_dump() | {"name": solver_name, "reason": reason}
    if solver_name == "gradient_descent" and spec.solver.batch_size == "auto":
        solver["batch_size"] = "full"
    return ResolvedSpec(
        **spec.model_dump(exclude={"name", "inputs", "solver"}),
        name=spec.name or ", ".join(spec.targets)[:NAME_LENGTH_MAX],
        inputs=inputs,
        solver=ResolvedSolver(**solver),
    )


def chosen_inputs(spec: TrainingSpec, columns: Sequence[Column]) -> list[str]:
    if spec.inputs is not None:
        return spec.inputs
    return [column.name for column in columns if column.name not in spec.targets]


def chosen_solver(spec: TrainingSpec) -> tuple[str, str]:
    if spec.solver.name == "auto":
        return choose_solver(spec.activation, spec.cost)
    return spec.solver.name, "It was asked for."


def target_faults(spec: TrainingSpec, by_name: dict[str, Column]) -> list[Fault]:
    faults = duplicate_faults("targets", spec.targets)
    for index, name in enumerate(spec.targets):
        pointer = f"/targets/{index}"
        match by_name.get(name):
            case None:
                faults.append(unknown_column(pointer, name, by_name))
            case CategoricalColumn() as column:
                faults.append(text_target(pointer, column))
            case NumericColumn() as column:
                faults += numeric_target_faults(spec, pointer, column)
    return faults


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
        f"The target {column.name!r} holds text. Targets are numbers in this version: "
        "upload one column of 0 and 1 for each class.",
        pointer,
        column=column.name,
    )


def numeric_target_faults(spec: TrainingSpec, pointer: str, column: NumericColumn) -> list[Fault]:
    if column.minimum is None or column.maximum is None or column.missing:
        return [missing_cells(pointer, column)]
    allowed = COSTS[spec.cost].target_range(ACTIVATIONS[spec.activation])
    if allowed.contains(column.minimum) and allowed.contains(column.maximum):
        return []
    return [
        Fault(
            f"The target {column.name!r} goes from {column.minimum:g} to {column.maximum:g}, and "
            f"{spec.activation} with {spec.cost} can only reach {interval(allowed)}. "
            f"{remedy(allowed)}",
            pointer,
            column=column.name,
        )
    ]


def remedy(allowed: OutputRange) -> str:
    if allowed.low == 0 and allowed.high == float("inf"):
        return "Use activation 'identity', or a target that is never negative."
    return (
        f"Scale the target into {interval(allowed)}, or use activation 'identity' with cost "
        "'half_squared_error', which reaches every number."
    )


def interval(allowed: OutputRange) -> str:
    left, right = "(" if allowed.low_open else "[", ")" if allowed.high_open else "]"
    return f"{left}{allowed.low:g}, {allowed.high:g}{right}"


def input_faults(
    spec: TrainingSpec, inputs: list[str], by_name: dict[str, Column], settings: Settings
) -> list[Fault]:
    if not inputs:
        return [Fault("No column is left to learn from.", "/inputs")]
    faults = duplicate_faults("inputs", inputs)
    for index, name in enumerate(inputs):
        pointer = "/inputs" if spec.inputs is None else f"/inputs/{index}"
        column = by_name.get(name)
        if column is None:
            faults.append(unknown_column(pointer, name, by_name))
        elif name in spec.targets:
            faults.append(Fault(f"{name!r} is also a target.", pointer, column=name))
        elif column.missing:
            faults.append(missing_cells(pointer, column))
        elif isinstance(column, CategoricalColumn) and column.level_count > settings.levels_max:
            faults.append(too_many_levels(pointer, column, settings))
    return faults


def duplicate_faults(field: str, names: Sequence[str]) -> list[Fault]:
    seen: set[str] = set()
    faults = []
    for index, name in enumerate(names):
        if name in seen:
            faults.append(Fault(f"{name!r} is named twice.", f"/{field}/{index}", column=name))
        seen.add(name)
    return faults


def unknown_column(pointer: str, name: str, by_name: dict[str, Column]) -> Fault:
    known = ", ".join(list(by_name)[:20])
    return Fault(f"The dataset has no column {name[:80]!r}. It has: {known}.", pointer)


def missing_cells(pointer: str, column: Column) -> Fault:
    return Fault(
        f"{column.name!r} has {column.missing} missing cells, and rows with missing cells cannot "
        "be used in this version. Fill or drop them and upload again, or leave the column out.",
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


def method_faults(spec: TrainingSpec, solver: str) -> list[Fault]:
    suited = COSTS[spec.cost].activations
    if suited is not None and spec.activation not in suited:
        return [
            Fault(
                f"The cost {spec.cost} goes with activation {' or '.join(sorted(suited))}, not "
                f"with {spec.activation}.",
                "/cost",
            )
        ]
    reason = unsuitable(solver, spec.activation, spec.cost)
    return [] if reason is None else [Fault(reason, "/solver/name")]


def split_faults(spec: TrainingSpec, row_count: int) -> list[Fault]:
    if row_count - round(spec.validation.fraction * row_count) >= 1:
        return []
    return [Fault(f"Of {row_count} rows none would be left to train on.", "/validation/fraction")]


def size_faults(
    spec: TrainingSpec,
    inputs: list[str],
    by_name: dict[str, Column],
    row_count: int,
    settings: Settings,
) -> list[Fault]:
    width = sum(encoded_width(by_name[name]) for name in inputs if name in by_name)
    faults = []
    if width * len(spec.targets) > settings.parameters_max:
        faults.append(
            Fault(
                f"The layer would have {width:,} x {len(spec.targets):,} weights; at most "
                f"{settings.parameters_max:,} are allowed here.",
                "/inputs",
            )
        )
    if width * row_count > settings.training_cells_max:
        faults.append(
            Fault(
                f"Training would hold {row_count:,} rows x {width:,} encoded inputs; at most "
                f"{settings.training_cells_max:,} numbers are allowed here.",
                "/inputs",
            )
        )
    return faults


def encoded_width(column: Column) -> int:
    return column.level_count if isinstance(column, CategoricalColumn) else 1
