"""What is told where there is no answer, and what limits cost, over HTTP."""

from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from tests.builders import Json
from tests.inference.lab import Lab, limits_of, only_solution

START: Json = {"a": 2.0, "c": 0.0, "d": 10.0, "kind": "u"}
FROZEN: Json = {"frozen": True}


def test_what_cannot_be_reached_is_told_with_what_can(lab: Lab) -> None:
    """The interval is confirmed by an independent linear program."""
    units = lab.units("plane")
    bounds = [(0.0, 20.0), (-1.0, 1.0)]

    answer = lab.invert(
        "plane",
        target={"y": 100.0},
        features={"a": {"min": 0.0, "max": 20.0}, "c": {"min": -1.0, "max": 1.0}},
    )

    most, least = (
        float(units.w @ np.asarray(linprog(sign * units.w, bounds=bounds).x)) + units.b
        for sign in (-1, 1)
    )
    assert (answer["status"], answer["solutions"]) == ("infeasible", [])
    told = answer["infeasibility"]
    assert told["attainable"] == {
        "y": {"min": pytest.approx(least), "max": pytest.approx(most), "exact": True}
    }
    assert told["nearest"]["prediction"]["y"] == pytest.approx(most, rel=1e-9)
    assert lab.predict("plane", told["nearest"]["input"])["y"] == told["nearest"]["prediction"]
    assert told["text"] == "Within the limits y reaches 48 at most."
    assert told["conflict"] is None


def test_too_little_is_told_as_well(lab: Lab) -> None:
    answer = lab.invert("plane", target={"y": {"max": 3.0}})

    least = answer["infeasibility"]["attainable"]["y"]["min"]
    assert answer["infeasibility"]["text"] == f"Within the limits y is {least:.6g} at least."


def test_outputs_that_only_together_are_too_much_are_told_so(lab: Lab) -> None:
    alone = [lab.invert("two outputs", target={name: 3.0}) for name in ("p", "q")]
    both = lab.invert("two outputs", target={"p": -6.0, "q": 3.0})

    assert [answer["status"] for answer in alone] == ["optimal", "optimal"]
    if both["status"] == "infeasible":
        assert "at once" in both["infeasibility"]["text"]


@pytest.mark.parametrize("nearness", ["l1", "l2"])
def test_prices_are_what_a_little_more_room_saves(lab: Lab, nearness: str) -> None:
    """Central differences: each limit is moved and the question asked again."""
    question: Json = {
        "start": START,
        "target": {"y": 19.0},
        "nearness": nearness,
        "units": "raw",
        "within": "anything",
        "constraints": [{"terms": {"c": 1.0, "d": 0.4}, "op": "<=", "value": 6.0}],
        "features": {"a": {"max": 3.0}, "kind": FROZEN},
    }

    def cost(a_max: float, value: float) -> float:
        moved = {
            **question,
            "constraints": [{"terms": {"c": 1.0, "d": 0.4}, "op": "<=", "value": value}],
            "features": {"a": {"max": a_max}, "kind": FROZEN},
        }
        return float(lab.checked("mixed", **moved)["cost"])

    prices = limits_of(lab.invert("mixed", **question, returned=["duals"]))

    h = 1e-4
    expected = {
        "features.a.max": (cost(3 - h, 6) - cost(3 + h, 6)) / (2 * h),
        "constraints[0]": (cost(3, 6 - h) - cost(3, 6 + h)) / (2 * h),
    }
    assert prices == pytest.approx({k: v for k, v in expected.items() if v > 1e-6}, rel=1e-5)
    assert "features.a.max" in prices


def test_prices_of_a_goal_are_how_much_further_it_would_go(lab: Lab) -> None:
    def most(a_max: float, value: float) -> Json:
        return lab.invert(
            "mixed",
            target={"y": {"goal": "maximize", "weight": 3.0}},
            features={"a": {"max": a_max}, "kind": FROZEN},
            constraints=[{"terms": {"c": 1.0, "d": 0.4}, "op": "<=", "value": value}],
            returned=["duals"],
        )

    def reached(a_max: float, value: float) -> float:
        return float(only_solution(most(a_max, value))["prediction"]["y"])

    prices = limits_of(most(5.0, 6.0))

    assert prices["features.a.max"] == pytest.approx(reached(6, 6) - reached(5, 6), rel=1e-6)
    assert prices["constraints[0]"] == pytest.approx(reached(5, 7) - reached(5, 6), rel=1e-6)


def test_the_limit_is_named_by_who_set_it(lab: Lab) -> None:
    def named(target: float, **feature: Any) -> set[str]:
        answer = lab.invert(
            "plane",
            start={"a": 10, "c": 0},
            target={"y": target},
            features={"a": feature},
            returned=["duals"],
        )
        return set(limits_of(answer))

    assert named(26.0, max=10.2) == {"features.a.max"}
    assert named(26.0, frozen=True) == {"features.a.frozen"}
    assert named(26.0, direction="down") == {"features.a.direction"}
    assert named(40.5) == {"training_range.a.max"}
    assert named(26.0, min=11.5, direction="up") <= {"features.a.min"}


def test_prices_of_a_miss_are_what_it_shrinks_by(lab: Lab) -> None:
    limits: Json = {"a": {"max": 3.0}, "c": {"max": 1.0}, "d": {"max": 12.0}, "kind": FROZEN}

    def missed(**moved: float) -> float:
        features = {**limits, **{name: {"max": value} for name, value in moved.items()}}
        answer = lab.invert("mixed", start=START, target={"y": 50.0}, features=features)
        return 50.0 - float(answer["infeasibility"]["attainable"]["y"]["max"])

    answer = lab.invert("mixed", start=START, target={"y": 50.0}, features=limits)

    binding = {limit["limit"]: limit for limit in answer["infeasibility"]["binding"]}
    assert list(binding) == ["features.a.max", "features.c.max", "features.d.max"]
    for name in "acd":
        limit = binding[f"features.{name}.max"]
        assert limit["value"] == limits[name]["max"]
        assert limit["price"] == pytest.approx(missed() - missed(**{name: limit["value"] + 1}))


def test_constraints_hold_in_the_answer(lab: Lab) -> None:
    constraints: list[Json] = [
        {"terms": {"a": 1.0, "c": -2.0}, "op": "<=", "value": 3.0},
        {"terms": {"d": 1.0}, "op": ">=", "value": 20.0},
        {"terms": {"a": 1.0, "d": 0.1}, "op": "=", "value": 6.0},
    ]

    found = lab.checked("mixed", start=START, target={"y": 26.0}, constraints=constraints)

    row = found["input"]
    assert row["a"] - 2 * row["c"] <= 3.0 + 1e-9
    assert row["d"] >= 20.0 - 1e-9
    assert row["a"] + 0.1 * row["d"] == pytest.approx(6.0, abs=1e-9)


def test_no_nearer_input_meets_the_constraints(lab: Lab) -> None:
    """By l1, against a linear program on distances up and down."""
    units = lab.units("identity")
    start = np.array([0.5, -0.3, 0.2])
    rows = np.array([units.w, [1.0, 1.0, 0.0]])
    values = np.array([1.4 - units.b, 0.9])

    found = lab.checked(
        "identity",
        start=dict(zip("acd", start.tolist(), strict=True)),
        target={"y": 1.4},
        nearness="l1",
        constraints=[{"terms": {"a": 1.0, "c": 1.0}, "op": "=", "value": 0.9}],
        within="anything",
    )

    peer = linprog(
        np.tile(1 / units.scale, 2),
        A_eq=np.hstack((rows, -rows)),
        b_eq=values - rows @ start,
        bounds=(0, None),
    )
    assert found["cost"] == pytest.approx(peer.fun, rel=1e-9)


def test_constraints_that_contradict_each_other_are_named(lab: Lab) -> None:
    answer = lab.invert(
        "mixed",
        target={"y": 30.0},
        constraints=[
            {"terms": {"d": 1}, "op": ">=", "value": 1},
            {"terms": {"a": 1, "c": 1}, "op": ">=", "value": 8},
            {"terms": {"c": 1}, "op": "<=", "value": 3},
            {"terms": {"a": 1, "c": 1}, "op": "<=", "value": 7},
        ],
    )

    told = answer["infeasibility"]
    assert told["conflict"] == {"demands": ["constraints[1]", "constraints[3]"], "smallest": True}
    assert (told["attainable"], told["nearest"], told["binding"]) == ({}, None, [])
    assert told["text"] == "The limits and constraints contradict each other, whatever the target."


def test_a_constraint_and_limits_that_contradict_each_other_are_named(lab: Lab) -> None:
    answer = lab.invert(
        "mixed",
        target={"y": 30.0},
        features={"a": {"max": 3}, "c": {"max": 1}},
        constraints=[{"terms": {"a": 1, "c": 1}, "op": ">=", "value": 5}],
    )

    demands = answer["infeasibility"]["conflict"]["demands"]
    assert sorted(demands) == ["constraints[0]", "features.a.max", "features.c.max"]


def test_a_target_is_a_demand_where_it_is_asked_for(lab: Lab) -> None:
    question: Json = {
        "start": START,
        "target": {"y": 60.0},
        "features": {"kind": {"levels": ["u", "v"]}},
    }

    plain = lab.invert("mixed", **question)
    told = lab.invert("mixed", **question, returned=["conflict"])
    counted = lab.invert(
        "mixed", start=START, target={"y": 25}, max_changed=0, returned=["conflict"]
    )

    assert plain["infeasibility"]["conflict"] is None
    assert "target.y" in told["infeasibility"]["conflict"]["demands"]
    assert counted["infeasibility"]["conflict"]["demands"] == ["target.y", "max_changed"]


def test_where_a_category_holds_the_target_back_its_levels_are_named(lab: Lab) -> None:
    answer = lab.invert(
        "mixed",
        start=START,
        target={"y": {"min": 16.0}},
        features={**dict.fromkeys("acd", FROZEN), "kind": {"levels": ["u", "v"]}},
        returned=["conflict"],
    )

    demands = answer["infeasibility"]["conflict"]["demands"]
    assert "features.kind.levels" in demands
    assert answer["infeasibility"]["nearest"]["input"]["kind"] == "v"


def test_the_nearest_miss_weighs_its_targets(lab: Lab) -> None:
    def nearest(weight: float) -> float:
        answer = lab.invert(
            "two outputs",
            start={"a": 0, "c": 0, "d": 0},
            target={"p": {"value": 1.0, "weight": weight}, "q": -1.0},
            features={"c": FROZEN, "d": FROZEN},
        )
        return float(answer["infeasibility"]["nearest"]["input"]["a"])

    # p = q = a: the minimum of (weight (a - 1))^2 + (a + 1)^2 is at (w^2 - 1) / (w^2 + 1).
    assert nearest(1.0) == pytest.approx(0.0, abs=1e-4)
    assert nearest(2.0) == pytest.approx(0.6, abs=1e-4)


def test_an_unreachable_robust_wish_says_so(lab: Lab) -> None:
    most = lab.checked("identity", target={"y": "maximize"})["prediction"]["y"]

    answer = lab.invert("identity", target={"y": {"min": most - 0.1}}, robust_epsilon=0.5)
    plain = lab.invert("identity", target={"y": {"min": most - 0.1}})

    assert answer["status"] == "infeasible"
    assert only_solution(plain)["verified"]
