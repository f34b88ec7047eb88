"""What invert does not take, and where it says so."""

from typing import Any

import pytest

from tests.builders import Api, Json
from tests.inference.lab import Lab
from tests.inference.test_predict import kinds

# Of a model with the inputs kind (u, v) and a, and the output y.
OF_KINDS: dict[str, tuple[Json, str, str]] = {
    "no target": ({"target": {}}, "/target", "no target"),
    "unknown output": ({"target": {"z": 1}}, "/target/z", "It has: y"),
    "unknown input in from": ({"from": {"z": 1}}, "/from/z", "It has: kind, a"),
    "unknown feature": ({"features": {"z": {}}}, "/features/z", "It has: kind, a"),
    "unknown level": ({"from": {"kind": "w"}}, "/from/kind", "u, v"),
    "text for a number": ({"from": {"a": "1"}}, "/from/a", "takes a number"),
    "a gap that is not filled": ({"from": {"a": None}}, "/from/a", "missing"),
    "a start that is far off": ({"from": {"a": 1e9}}, "/from/a", "too far"),
    "limits of a category": ({"features": {"kind": {"min": 1}}}, "/features/kind", "category"),
    "a step of a category": ({"features": {"kind": {"step": 1}}}, "/features/kind", "category"),
    "crossed limits": ({"features": {"a": {"min": 2, "max": 1}}}, "/features/a", "above max"),
    "a minimum that is far off": ({"features": {"a": {"min": 1e30}}}, "/features/a", "too far"),
    "levels of a number": ({"features": {"a": {"levels": ["u"]}}}, "/features/a", "no levels"),
    "order of a number": ({"features": {"a": {"order": ["u", "v"]}}}, "/features/a", "no levels"),
    "a level that is none": (
        {"features": {"kind": {"levels": ["u", "w"]}}},
        "/features/kind",
        "'w' is no level",
    ),
    "no levels": ({"features": {"kind": {"levels": []}}}, "/features/kind/levels", "at least 1"),
    "levels that leave nothing": (
        {"from": {"kind": "u"}, "features": {"kind": {"frozen": True, "levels": ["v"]}}},
        "/features/kind",
        "left",
    ),
    "an order against the levels": (
        {
            "from": {"kind": "v"},
            "features": {"kind": {"order": ["u", "v"], "direction": "up", "levels": ["u"]}},
        },
        "/features/kind",
        "left",
    ),
    "levels that the gradient cannot take": (
        {"from": {"kind": "u"}, "features": {"kind": {"levels": ["v"]}}, "method": "gradient"},
        "/features/kind",
        "left",
    ),
    "an order that leaves one out": (
        {"features": {"kind": {"order": ["u", "w"]}}},
        "/features/kind",
        "each level",
    ),
    "an order with one level": (
        {"features": {"kind": {"order": ["u"]}}},
        "/features/kind/order",
        "at least 2",
    ),
    "direction without order": (
        {"features": {"kind": {"direction": "up"}}},
        "/features/kind",
        "order",
    ),
    "frozen above its maximum": (
        {"from": {"a": 9}, "features": {"a": {"frozen": True, "max": 5}}},
        "/features/a",
        "frozen at 9",
    ),
    "limits that leave no multiple": (
        {"features": {"a": {"integer": True, "min": 1.2, "max": 1.8}}},
        "/features/a",
        "Nothing is left",
    ),
    "a direction away from the limits": (
        {"from": {"a": 4}, "features": {"a": {"max": 3, "direction": "up"}}},
        "/features/a",
        "Nothing is left",
    ),
    "a step of whole numbers that is not whole": (
        {"features": {"a": {"integer": True, "step": 0.5}}},
        "/features/a",
        "not whole",
    ),
    "a step that is too fine": (
        {"features": {"a": {"step": 1e-12}}},
        "/features/a",
        "out of proportion",
    ),
    "no cost at all": ({"features": {"a": {"cost": 0}}}, "/features/a/cost", "greater"),
    "a class of a number": ({"target": {"y": {"class": "u"}}}, "/target/y", "no classes"),
    "a target of nothing": ({"target": {"y": {}}}, "/target/y", "Give one of"),
    "a target of two kinds": (
        {"target": {"y": {"value": 1, "goal": "maximize"}}},
        "/target/y",
        "Give one of",
    ),
    "a margin without a class": (
        {"target": {"y": {"value": 1, "margin": 1}}},
        "/target/y",
        "go with class",
    ),
    "a crossed interval": (
        {"target": {"y": {"min": 2, "max": 1}}},
        "/target/y",
        "min is above max",
    ),
    "a goal that is no word": ({"target": {"y": "more"}}, "/target/y", "maximize"),
    "true for a target": ({"target": {"y": True}}, "/target/y", "Give a number"),
    "a target that is far off": ({"target": {"y": 1e30}}, "/target/y", "too far"),
    "an unknown input in a constraint": (
        {"constraints": [{"terms": {"z/~": 1}, "op": "<=", "value": 1}]},
        "/constraints/0/terms/z~1~0",
        "It has: a",
    ),
    "a category in a constraint": (
        {"constraints": [{"terms": {"kind": 1}, "op": "<=", "value": 1}]},
        "/constraints/0/terms/kind",
        "category",
    ),
    "a constraint of nothing": (
        {"constraints": [{"terms": {}, "op": "<=", "value": 1}]},
        "/constraints/0/terms",
        "at least 1",
    ),
    "another operator": (
        {"constraints": [{"terms": {"a": 1}, "op": "<", "value": 1}]},
        "/constraints/0/op",
        "<=",
    ),
    "too many constraints": (
        {"constraints": [{"terms": {"a": 1}, "op": "<=", "value": 1}] * 101},
        "/constraints",
        "at most 100",
    ),
    "a factor that is far off": (
        {"constraints": [{"terms": {"a": 1e300}, "op": "<=", "value": 1}]},
        "/constraints/0/terms/a",
        "too large",
    ),
    "a value that is far off": (
        {"constraints": [{"terms": {"a": 1}, "op": ">=", "value": 1e300}]},
        "/constraints/0/value",
        "too large",
    ),
    "changes that cannot be counted": (
        {"max_changed": 1, "within": "anything"},
        "/features/a",
        "min and a max",
    ),
    "a value for inputs that are off": ({"robust_epsilon": 0.1}, "/robust_epsilon", "interval"),
    "an interval too narrow for inputs that are off": (
        {"robust_epsilon": 0.1, "target": {"y": {"min": 4.0, "max": 4.0001}}},
        "/robust_epsilon",
        "narrower",
    ),
    "items and a frontier": (
        {"items": [{}], "frontier": {"output": "y", "values": [1.0]}},
        "/frontier",
        "not both",
    ),
    "no items": ({"items": []}, "/items", "at least 1"),
    "too many items": ({"items": [{}] * 1001}, "/items", "at most 1000"),
    "a mistake in an item": (
        {"items": [{}, {"from": {"z": 1}}]},
        "/items/1/from/z",
        "It has: kind, a",
    ),
    "a target of an item": ({"items": [{"target": {"z": 1}}]}, "/items/0/target/z", "It has: y"),
    "a frontier of nothing": (
        {"frontier": {"output": "y", "values": []}},
        "/frontier/values",
        "at least 1",
    ),
    "a frontier of an unknown output": (
        {"frontier": {"output": "z", "values": [1.0, 2.0]}},
        "/frontier/output",
        "It has: y",
    ),
    "too many answers": ({"k": 11}, "/k", "less than or equal to 10"),
    "steps beyond the limit": ({"steps_max": 10**9}, "/steps_max", "steps"),
    "the method that was": ({"method": "exact"}, "/method", "'auto' or 'gradient'"),
    "an unknown field": ({"budget": 1}, "/budget", "not permitted"),
}
GRADIENT: dict[str, tuple[Json, str, str]] = {
    "constraints": (
        {"constraints": [{"terms": {"a": 1}, "op": "<=", "value": 1}]},
        "/constraints",
        "constraints",
    ),
    "steps": ({"features": {"a": {"step": 1}}}, "/features", "steps"),
    "whole numbers": ({"features": {"a": {"integer": True}}}, "/features", "steps"),
    "several answers": ({"k": 2}, "/k", "more than one"),
    "a count": ({"max_changed": 1}, "/max_changed", "max_changed"),
    "rounding": ({"robust_epsilon": 0.1}, "/robust_epsilon", "robust_epsilon"),
    "a frontier": ({"frontier": {"output": "y", "values": [1.0]}}, "/frontier", "frontier"),
    "a goal": ({"target": {"y": "maximize"}}, "/target/y", "maximize"),
}
# By the recipe of the model that is asked.
OTHERS: dict[str, tuple[str, Json, str, str]] = {
    "a value that sigma never takes": ("sigmoid", {"target": {"y": 1.0}}, "/target/y", "0 and 1"),
    "an interval beyond it": ("tanh", {"target": {"y": {"min": 1.5}}}, "/target/y", "-1 and 1"),
    "one of an item": (
        "sigmoid",
        {"items": [{"target": {"y": 0.5}}, {"target": {"y": -1}}]},
        "/items/1/target/y",
        "0 and 1",
    ),
    "one of a frontier": (
        "sigmoid",
        {"frontier": {"output": "y", "values": [0.5, 2.0]}},
        "/frontier/values/1",
        "0 and 1",
    ),
    "a label that is none": (
        "two species",
        {"target": {"species": {"class": "rose"}}},
        "/target/species",
        "versicolor, virginica",
    ),
    "a value of a label": (
        "two species",
        {"target": {"species": 1.0}},
        "/target/species",
        "give a class",
    ),
    "a class of one of its outputs": (
        "three species",
        {"target": {"species=setosa": {"class": "setosa"}}},
        "/target/species=setosa",
        "no classes",
    ),
    "a probability where there is none": (
        "scored species",
        {"target": {"species": {"class": "setosa", "probability": 0.6}}},
        "/target/species",
        "no probability",
    ),
    "a margin for the gradient": (
        "three species",
        {"target": {"species": {"class": "setosa", "margin": 1}}, "method": "gradient"},
        "/target/species",
        "no margin",
    ),
    "a class for the gradient where there is no probability": (
        "scored species",
        {"target": {"species": {"class": "setosa"}}, "method": "gradient"},
        "/target/species",
        "gives none",
    ),
    "a goal of softmax": (
        "three species",
        {"target": {"species=setosa": "maximize"}},
        "/target",
        "softmax",
    ),
    "a level that is unknown and barred": (
        "forgiving kinds",
        {"from": {"kind": "new"}, "features": {"kind": {"levels": ["u"]}}, "target": {"y": 1}},
        "/features/kind",
        "left",
    ),
}


def assert_pointed_at(problem: Json, pointer: str, part: str) -> None:
    found = [fault for fault in problem["errors"] if fault["pointer"] == pointer]
    assert found, problem
    assert part in found[0]["detail"], problem


@pytest.mark.parametrize("name", OF_KINDS)
def test_a_question_that_does_not_fit_is_refused_by_name(lab: Lab, name: str) -> None:
    change, pointer, part = OF_KINDS[name]

    problem = asked(lab, "kinds", {"target": {"y": 4.0}} | change)

    assert_pointed_at(problem, pointer, part)


@pytest.mark.parametrize("name", GRADIENT)
def test_what_the_gradient_cannot_do_is_refused(lab: Lab, name: str) -> None:
    change, pointer, part = GRADIENT[name]

    problem = asked(lab, "kinds", {"target": {"y": 4.0}, "method": "gradient"} | change)

    assert_pointed_at(problem, pointer, part)
    assert "auto" in problem["errors"][0]["detail"]


@pytest.mark.parametrize("name", OTHERS)
def test_what_a_model_never_gives_is_refused(lab: Lab, name: str) -> None:
    recipe, question, pointer, part = OTHERS[name]

    assert_pointed_at(asked(lab, recipe, question), pointer, part)


def test_a_mistake_that_all_items_share_is_told_once(lab: Lab) -> None:
    question: Json = {"target": {"z": 1}, "frontier": {"output": "y", "values": [1.0, 2.0, 3.0]}}

    problem = asked(lab, "kinds", question)

    assert [fault["pointer"] for fault in problem["errors"]] == ["/target/z"]


def test_every_mistake_is_told_at_once(lab: Lab) -> None:
    question: Json = {
        "target": {"z": 1},
        "from": {"kind": "w"},
        "features": {"a": {"min": 2, "max": 1}},
        "constraints": [{"terms": {"kind": 1}, "op": "=", "value": 1}],
    }

    problem = asked(lab, "kinds", question)

    assert {fault["pointer"] for fault in problem["errors"]} == {
        "/target/z",
        "/from/kind",
        "/features/a",
        "/constraints/0/terms/kind",
    }


def test_a_model_that_is_not_there_is_told_on_either_database(api: Api) -> None:
    model = api.model_id(api.upload(kinds()), ["y"])

    missing = api.post("/v1/models/mdl_none/invert", {"target": {"y": 4.0}}, 404)
    problem = api.post(f"/v1/models/{model}/invert", {"target": {"z": 4.0}}, 422)

    assert missing["code"] == "model_not_found"
    assert_pointed_at(problem, "/target/z", "It has: y")


def asked(lab: Lab, recipe: str, question: Json) -> Any:
    return lab.api.post(f"/v1/models/{lab.model(recipe)}/invert", question, 422)
