"""What a spec comes to beside the columns of its table: no data, no database."""

from typing import Any

import pytest

from app.datasets.columns import CategoricalColumn, Column, Level, NumericColumn
from app.errors import Fault, InvalidSpec
from app.jobs.resolution import resolve
from app.jobs.training_spec import ResolvedSpec, TrainingSpec
from app.settings import Settings


def number(name: str, low: float, high: float, *, distinct: int = 90, missing: int = 0) -> Column:
    return NumericColumn(name, missing, low, high, (low + high) / 2, (high - low) / 4, distinct)


def text(name: str, *levels: str) -> Column:
    counted = tuple(Level(level, 100 // len(levels)) for level in levels)
    return CategoricalColumn(name, 0, len(levels), counted)


COLUMNS = [
    number("a", -3, 3),
    number("gappy", 0, 9, missing=4),
    number("strength", 2, 80),
    number("share", 0, 1),
    number("digit", 0, 9, distinct=10),
    number("one or two", 1, 2, distinct=2),
    number("weight", 0, 5),
    text("verdict", "bad", "good"),
    text("species", "Adelie", "Gentoo", "Chinstrap"),
]


def resolved(targets: list[str], *, rows: int = 100, **changes: Any) -> ResolvedSpec:
    spec = {"dataset_id": "ds_0", "targets": targets, "inputs": ["a"], **changes}
    return resolve(TrainingSpec(**spec), COLUMNS, rows, Settings(training_bytes_max=10_000))


@pytest.mark.parametrize(
    ("targets", "changes", "expected"),
    [
        (["strength"], {}, ("regression", "identity", "half_squared_error", "closed_form")),
        (["verdict"], {}, ("classification", "sigmoid", "cross_entropy", "newton")),
        (["species"], {}, ("classification", "softmax", "cross_entropy", "newton")),
        (
            ["verdict"],
            {"activation": "softmax"},
            ("classification", "softmax", "cross_entropy", "newton"),
        ),
        (
            ["digit"],
            {"activation": "softmax"},
            ("classification", "softmax", "cross_entropy", "newton"),
        ),
        (
            ["one or two"],
            {"cost": "cross_entropy"},
            ("classification", "sigmoid", "cross_entropy", "newton"),
        ),
        (
            ["share"],
            {"cost": "cross_entropy"},
            ("regression", "sigmoid", "cross_entropy", "newton"),
        ),
        (
            ["share"],
            {"activation": "sigmoid"},
            ("regression", "sigmoid", "half_squared_error", "lbfgs"),
        ),
        (["strength"], {"cost": "poisson"}, ("regression", "exp", "poisson", "newton")),
        (["strength"], {"cost": "huber"}, ("regression", "identity", "huber", "lbfgs")),
        (
            ["strength"],
            {"regularization": {"l1": 0.1}},
            ("regression", "identity", "half_squared_error", "proximal_newton"),
        ),
        (
            ["strength"],
            {"solver": {"batch_size": 16}},
            ("regression", "identity", "half_squared_error", "momentum"),
        ),
        (
            ["strength"],
            {"activation": "sigmoid", "preprocessing": {"target_scaling": "min_max"}},
            ("regression", "sigmoid", "half_squared_error", "lbfgs"),
        ),
    ],
)
def test_what_auto_comes_to(
    targets: list[str], changes: dict[str, Any], expected: tuple[str, ...]
) -> None:
    spec = resolved(targets, **changes)

    assert (spec.task, spec.activation, spec.cost, spec.solver.name) == expected
    assert spec.solver.reason.endswith(".")


def test_a_resolved_spec_resolves_to_itself() -> None:
    spec = resolved(["species"], solver={"name": "adam", "batch_size": 8})
    asked = spec.model_dump(exclude={"task", "in_memory", "multiply_adds"})
    asked["solver"].pop("reason")

    again = resolve(TrainingSpec(**asked), COLUMNS, 100, Settings())

    assert again.solver.momentum == 0.9
    assert again.model_dump(exclude={"solver"}) == spec.model_dump(exclude={"solver"})


def test_columns_with_another_part_to_play_are_no_inputs() -> None:
    spec = resolved(
        ["strength"],
        inputs=None,
        sample_weight="weight",
        validation={"method": "group", "column": "species"},
        preprocessing={"missing": "median"},
    )

    assert spec.inputs == ["a", "gappy", "share", "digit", "one or two", "verdict"]


@pytest.mark.parametrize(
    ("rows", "changes", "fits"),
    [
        (500, {}, True),
        (600, {}, False),
        (600, {"dtype": "float32"}, True),
        (600, {"validation": {"fraction": 0.5}}, True),
        (600, {"inputs": ["a", "gappy"], "preprocessing": {"missing": "mean"}}, False),
    ],
)
def test_rows_that_do_not_fit_into_memory_are_read_from_the_file(
    rows: int, changes: dict[str, Any], fits: bool
) -> None:
    assert resolved(["strength"], rows=rows, **changes).in_memory is fits


def test_mini_batches_of_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidSpec) as refused:
        resolved(["strength"], rows=200, solver={"batch_size": 10})

    assert "memory" in refused.value.faults[0].detail


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(InvalidSpec) as refused:
        resolved(["nope"], inputs=["gappy"], sample_weight="species", class_weight="balanced")

    pointers = [fault.pointer for fault in refused.value.faults]
    assert pointers == ["/targets/0", "/inputs/0", "/class_weight", "/sample_weight"]


def test_levels_are_limited() -> None:
    labels = text("many", *map(str, range(30)))
    spec = TrainingSpec(dataset_id="ds_0", targets=["many"], inputs=["a"])

    with pytest.raises(InvalidSpec, match="30 different labels"):
        resolve(spec, [*COLUMNS, labels], 100, Settings(levels_max=20))


def test_the_work_that_a_job_may_be_is_told() -> None:
    spec = resolved(["strength", "share"], rows=100, inputs=["a", "species"], solver={"epochs": 30})

    # 80 rows are trained on; species takes three columns.
    assert spec.multiply_adds == 80 * 4 * 2 * 30


@pytest.mark.parametrize(
    ("budgets", "parts"),
    [
        ({"job_budget": 80 * 500 - 1}, ["40,000 multiply-adds", "39,999", "at most 499 epochs"]),
        ({"owner_budget": 79}, ["at most 79 are allowed", "Ask for fewer inputs or rows"]),
        ({"job_budget": 80 * 500, "owner_budget": 80 * 500}, []),
    ],
)
def test_a_job_beyond_the_budget_is_refused_with_what_to_ask_for(
    budgets: dict[str, int], parts: list[str]
) -> None:
    spec = TrainingSpec(dataset_id="ds_0", targets=["strength"], inputs=["a"])

    faults: tuple[Fault, ...] = ()
    try:
        resolve(spec, COLUMNS, 100, Settings().model_copy(update=budgets))
    except InvalidSpec as error:
        faults = error.faults

    assert [fault.pointer for fault in faults] == ["/solver/epochs"] * bool(parts)
    assert all(part in fault.detail for fault in faults for part in parts), faults
