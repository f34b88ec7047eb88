"""Many questions in one request, frontiers, gaps, and limits of time and size, over HTTP."""

import json
import time
from typing import Any

import numpy as np
import pytest

from tests.builders import Json
from tests.inference.lab import Lab, only_solution


def strict(constant: str) -> Any:
    raise AssertionError(f"{constant} is no JSON")


def test_items_are_answered_as_if_asked_one_by_one(lab: Lab) -> None:
    """In closed form where the first two belong, by programs for the others."""
    items: list[Json] = [
        {"target": {"y": 20.0}},
        {"from": {"a": 12.0, "c": 0.3}, "target": {"y": {"min": 30.0}}},
        {"from": {"a": 12.0}},
        {"target": {"y": "minimize"}},
        {"target": {"y": 90.0}},
    ]
    shared: Json = {"target": {"y": 25.0}, "features": {"c": {"max": 0.8}}}

    answer = lab.invert("plane", items=items, **shared)

    single = [lab.invert("plane", **{**shared, **item}) for item in items]
    assert [result["status"] for result in answer["results"]] == [
        *["optimal"] * 4,
        "infeasible",
    ]
    for result, alone in zip(answer["results"], single, strict=True):
        assert {
            **result,
            "model_id": alone["model_id"],
            "model_version": alone["model_version"],
        } == approximately(alone)


def approximately(value: Any) -> Any:
    """The same answer, its numbers up to rounding."""
    if isinstance(value, dict):
        return {key: approximately(item) for key, item in value.items()}
    if isinstance(value, list):
        return [approximately(item) for item in value]
    return pytest.approx(value, rel=1e-9, abs=1e-12) if isinstance(value, float) else value


def test_items_with_categories_equal_single_answers(lab: Lab) -> None:
    random = np.random.default_rng(8)
    items: list[Json] = [
        {
            "from": {"a": float(a), "d": float(d), "kind": str(kind)},
            "target": {"y": {"min": float(y)}},
        }
        for a, d, kind, y in zip(
            random.uniform(0, 10, 8),
            random.uniform(0, 40, 8),
            random.choice(["u", "v", "w"], 8),
            random.uniform(20, 48, 8),
            strict=True,
        )
    ]

    answer = lab.invert("mixed", items=items)

    for item, result in zip(items, answer["results"], strict=True):
        alone = lab.invert("mixed", **item)
        assert (result["status"], result["method"]) == (alone["status"], alone["method"])
        if result["solutions"]:
            found = only_solution(result)
            assert found["verified"]
            assert found["cost"] == pytest.approx(only_solution(alone)["cost"], rel=1e-9)


def test_what_time_does_not_allow_is_told_of_each_item(lab: Lab) -> None:
    items = [{"target": {"y": 60.0 + number}} for number in range(500)]

    started = time.monotonic()
    answer = lab.invert("mixed", items=items, time_limit_seconds=0.05)

    assert time.monotonic() - started < 3.0
    assert len(answer["results"]) == 500
    assert {result["status"] for result in answer["results"]} <= {"infeasible", "time_limit"}
    assert answer["results"][-1]["status"] == "time_limit"
    assert "time_limit_seconds" in answer["results"][-1]["warnings"][0]


def test_a_hard_question_is_answered_in_its_time(lab: Lab) -> None:
    started = time.monotonic()
    answer = lab.invert(
        "mixed",
        start={"a": 2.2, "c": 0.1, "d": 10.7, "kind": "u"},
        target={"y": {"min": 37.01, "max": 37.02}},
        features={"a": {"step": 0.013}, "c": {"step": 0.017}, "d": {"step": 0.019}},
        constraints=[{"terms": {"a": 1, "c": -2, "d": 0.3}, "op": "<=", "value": 4}],
        max_changed=3,
        time_limit_seconds=0.001,
    )

    assert time.monotonic() - started < 2.0
    assert answer["status"] in {"time_limit", "feasible", "optimal"}
    if answer["status"] == "time_limit":
        assert answer["solutions"] == []


def test_along_a_frontier_more_costs_more(lab: Lab) -> None:
    values = [22.0, 25.0, 30.0, 38.0, 46.0, 90.0]
    start: Json = {"a": 3.0, "c": 0.0, "d": 20.0, "kind": "u"}

    answer = lab.invert(
        "mixed", start=start, frontier={"output": "y", "values": values, "bound": "min"}
    )

    points = answer["frontier"]
    assert answer["output"] == "y"
    assert [point["target"] for point in points] == values
    assert [point["status"] for point in points] == [*["optimal"] * 5, "infeasible"]
    costs = [point["cost"] for point in points[:-1]]
    assert costs == sorted(costs)
    assert (points[-1]["cost"], points[-1]["solution"]) == (None, None)
    assert 46.0 < answer["attainable"]["y"]["max"] < 90.0
    for value, point in zip(values[:-1], points[:-1], strict=True):
        alone = only_solution(lab.invert("mixed", start=start, target={"y": {"min": value}}))
        assert point["cost"] == pytest.approx(alone["cost"], rel=1e-9)
        assert point["solution"]["verified"]
        lab.check("mixed", point["solution"])


@pytest.mark.parametrize(
    ("bound", "holds"),
    [
        ("value", lambda y, value: y == pytest.approx(value, abs=1e-9)),
        ("min", lambda y, value: y >= value - 1e-9),
        ("max", lambda y, value: y <= value + 1e-9),
    ],
)
def test_a_frontier_holds_the_other_targets(lab: Lab, bound: str, holds: Any) -> None:
    values = [-1.0, 0.0, 1.0]

    answer = lab.invert(
        "two outputs",
        target={"q": 0.5},
        frontier={"output": "p", "values": values, "bound": bound},
    )

    for value, point in zip(values, answer["frontier"], strict=True):
        assert point["status"] == "optimal"
        assert holds(point["solution"]["prediction"]["p"], value)
        assert point["solution"]["prediction"]["q"] == pytest.approx(0.5, abs=1e-9)
    assert set(answer["attainable"]) == {"p", "q"}


def test_a_start_may_have_gaps_where_the_model_fills_them(lab: Lab) -> None:
    described = lab.api.get(f"/v1/models/{lab.model('gaps')}")["inputs"]
    fill = next(column["fill"] for column in described if column["name"] == "a")

    gap = lab.checked("gaps", start={"a": None, "c": 0.0}, target={"y": 1.0})
    filled = lab.checked("gaps", start={"a": fill, "c": 0.0}, target={"y": 1.0})
    kind = lab.checked("forgiving kinds", start={"kind": None}, target={"y": 4.0})

    assert gap == filled
    assert gap["prediction"]["y"] == pytest.approx(1.0, abs=1e-9)
    assert kind["input"]["kind"] in {"u", "v"}


def test_a_start_may_carry_the_targets_of_its_row_along(lab: Lab) -> None:
    bare = lab.checked("plane", start={"a": 9.0, "c": 0.1}, target={"y": 20.0})
    carried = lab.checked("plane", start={"a": 9.0, "c": 0.1, "y": 3.0}, target={"y": 20.0})
    label = lab.checked(
        "two species", start={"species": "versicolor"}, target={"species": {"class": "virginica"}}
    )

    assert carried == bare
    assert label["label"] == "virginica"


def test_a_level_that_the_model_takes_for_none_stays_as_it_was_written(lab: Lab) -> None:
    found = lab.checked("forgiving kinds", start={"kind": "new", "a": 1.0}, target={"y": 4.0})
    truth = lab.checked("forgiving kinds", start={"kind": True, "a": 1.0}, target={"y": 4.0})

    assert found["input"]["kind"] == "new"
    assert truth["input"]["a"] == found["input"]["a"]


HUGE = [1e308, -1e308, 1.7976931348623157e308, 5e-324, 1e20, -1e154]


@pytest.mark.parametrize("recipe", ["plane", "exp", "sigmoid"])
@pytest.mark.parametrize("huge", HUGE)
def test_what_is_not_finite_never_leaves(lab: Lab, recipe: str, huge: float) -> None:
    questions: list[Json] = [
        {"target": {"y": huge}},
        {"target": {"y": {"min": huge}}},
        {"target": {"y": {"max": huge}}},
        {"target": {"y": 0.5}, "from": {"a": huge}},
        {"target": {"y": 0.5}, "from": {"a": huge}, "method": "gradient"},
        {"target": {"y": 0.5}, "features": {"a": {"min": -abs(huge), "max": abs(huge)}}},
        {"target": {"y": 0.5}, "features": {"a": {"min": huge}}, "within": "anything"},
        {"target": {"y": 0.5}, "features": {"a": {"max": huge}}, "max_changed": 1},
        {"target": {"y": "maximize"}, "features": {"a": {"max": huge}}},
        {"target": {"y": 0.5}, "constraints": [{"terms": {"a": huge}, "op": "<=", "value": 1}]},
        {"target": {"y": 0.5}, "constraints": [{"terms": {"a": 1}, "op": ">=", "value": huge}]},
        {"target": {"y": 0.5}, "features": {"a": {"step": min(abs(huge), 1e12)}}},
        {"frontier": {"output": "y", "values": [huge]}},
    ]
    for question in questions:
        response = lab.api.client.post(f"/v1/models/{lab.model(recipe)}/invert", json=question)
        assert response.status_code in {200, 422}, (question, response.text)
        json.loads(response.text, parse_constant=strict)
        if response.status_code == 422:
            assert response.json()["detail"]
