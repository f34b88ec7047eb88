"""What a change costs and what may change, over HTTP, against brute force and scipy."""

import itertools
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from tests.builders import Json
from tests.inference.lab import Lab, limits_of, only_solution

START: Json = {"a": 2.0, "c": 0.0, "d": 10.0, "kind": "u"}
MORE = {"u": 0.0, "v": 4.0, "w": 7.0}
FROZEN: Json = {"frozen": True}


def y_of(row: Json) -> float:
    """What the table says, and so the model, to rounding."""
    return float(2 * row["a"] + row["c"] + 0.5 * row["d"] + MORE[row["kind"]])


def scales(lab: Lab) -> Json:
    described = lab.api.get(f"/v1/models/{lab.model('mixed')}")["inputs"]
    return {column["name"]: column["scale"] for column in described if column["kind"] == "numeric"}


@pytest.mark.parametrize("nearness", ["l1", "l2", "linf"])
@pytest.mark.parametrize("units", ["standardised", "raw"])
def test_costs_bend_what_is_nearest(lab: Lab, nearness: str, units: str) -> None:
    """Of y = 2 a + c + d / 2 raised by 6, by hand: Lagrange, Hoelder's inequality."""
    scale = scales(lab) if units == "standardised" else dict.fromkeys("acd", 1.0)
    cost = {"a": 3.0, "c": 0.5, "d": 2.0}
    features = {
        "a": {"cost": 1.5, "cost_up": 2.0, "cost_down": 9.0},
        "c": {"cost": 0.5},
        "d": {"cost_up": 2.0},
        "kind": FROZEN,
    }
    # Raising y by one costs so much if it is done by this input alone.
    price = np.array([cost[n] / (scale[n] * w) for n, w in {"a": 2, "c": 1, "d": 0.5}.items()])

    found = lab.checked(
        "mixed",
        start=START,
        target={"y": 15.0},
        features=features,
        nearness=nearness,
        units=units,
        within="anything",
    )

    expected = {
        "l1": 6 * price.min(),
        "l2": 6 / np.sqrt(np.square(1 / price).sum()),
        "linf": 6 / (1 / price).sum(),
    }
    assert found["cost"] == pytest.approx(expected[nearness], rel=1e-7)


@pytest.mark.parametrize("nearness", ["l1", "linf"])
def test_limits_and_costs_agree_with_a_linear_program(lab: Lab, nearness: str) -> None:
    scale = scales(lab)
    width = np.array([scale[name] for name in "acd"])
    w = np.array([2.0, 1.0, 0.5])
    high = np.array([3.0, 0.5, 30.0]) - np.array([START[name] for name in "acd"])
    question: Json = {
        "features": {"a": {"max": 3.0}, "c": {"max": 0.5}, "d": {"max": 30.0}, "kind": FROZEN}
    }

    found = lab.checked(
        "mixed", start=START, target={"y": 17.0}, nearness=nearness, within="anything", **question
    )

    if nearness == "l1":
        peer = linprog(1 / width, A_eq=w[None], b_eq=[8.0], bounds=[(0, h) for h in high])
    else:
        below = np.hstack((np.diag(1 / width), -np.ones((3, 1))))
        peer = linprog(
            [0, 0, 0, 1],
            A_ub=below,
            b_ub=np.zeros(3),
            A_eq=[[*w, 0]],
            b_eq=[8.0],
            bounds=[*((0, h) for h in high), (0, None)],
        )
    assert found["cost"] == pytest.approx(peer.fun, rel=1e-7)


def test_a_direction_bars_the_way_back(lab: Lab) -> None:
    up = lab.checked("mixed", start=START, target={"y": 5.0}, features={"a": {"direction": "up"}})
    down = lab.checked(
        "mixed",
        start=START,
        target={"y": 14.0},
        features={"a": {"direction": "down"}, "c": {"direction": "down"}},
    )

    assert up["input"]["a"] >= START["a"]
    assert down["input"]["a"] <= START["a"]
    assert down["input"]["c"] <= START["c"]


def test_steps_and_whole_numbers_are_the_best_of_all_that_there_are(lab: Lab) -> None:
    """Against the enumeration of every multiple and every level."""
    scale = scales(lab)
    target = (20.0, 20.6)
    features: Json = {
        "a": {"step": 0.5, "min": 0, "max": 9},
        "c": {"integer": True, "min": -2, "max": 2},
        "d": {"step": 2.5, "min": 0, "max": 35},
    }

    found = lab.checked(
        "mixed", start=START, target={"y": {"min": target[0], "max": target[1]}}, features=features
    )

    costs = []
    for a, c, d, kind in itertools.product(
        np.arange(0, 9.1, 0.5), range(-2, 3), np.arange(0, 35.1, 2.5), MORE
    ):
        row = {"a": a, "c": c, "d": d, "kind": kind}
        if target[0] - 1e-9 <= y_of(row) <= target[1] + 1e-9:
            moved = [(row[n] - START[n]) / scale[n] for n in "acd"]
            costs.append(np.sqrt(np.square([*moved, float(kind != "u")]).sum()))
    assert found["cost"] == pytest.approx(min(costs), rel=1e-9)
    assert found["input"]["a"] % 0.5 == found["input"]["c"] % 1 == found["input"]["d"] % 2.5 == 0


def test_a_frozen_number_may_stand_between_two_steps(lab: Lab) -> None:
    found = lab.checked(
        "mixed",
        start={**START, "a": 2.3},
        target={"y": 14.0},
        features={"a": {"frozen": True, "integer": True}},
    )

    assert found["input"]["a"] == 2.3


def test_levels_order_and_direction_of_a_category(lab: Lab) -> None:
    """Numbers are frozen, so that the target decides the level."""
    still = dict.fromkeys("acd", FROZEN)

    def kind(target: float, start: str, **feature: Any) -> Json:
        return lab.invert(
            "mixed",
            start={**START, "kind": start},
            target={"y": {"min": y_of({**START, "kind": "u"}) + target}},
            features={**still, "kind": feature},
        )

    any_way = only_solution(kind(3.0, "u"))
    barred = only_solution(kind(3.0, "u", levels=["u", "w"]))
    order = ["u", "v", "w"]
    stepped = only_solution(kind(5.0, "u", order=order, cost=2.0, cost_up=3.0))
    back = kind(0.0, "w", order=order, direction="up")
    no_way = kind(5.0, "u", order=order, direction="down")

    assert any_way["input"]["kind"] in {"v", "w"}
    assert barred["input"]["kind"] == "w"
    assert (stepped["input"]["kind"], stepped["cost"]) == ("w", pytest.approx(2 * 2.0 * 3.0))
    assert only_solution(back)["text"] == "Nothing has to change."
    assert no_way["status"] == "infeasible"


def test_a_start_at_a_level_that_is_barred_has_to_leave_it(lab: Lab) -> None:
    found = lab.checked(
        "mixed", start=START, target={"y": {"min": 0.0}}, features={"kind": {"levels": ["v", "w"]}}
    )

    assert found["input"]["kind"] in {"v", "w"}
    assert found["distance"]["changed"] == 1


@pytest.mark.parametrize("most", [0, 1, 2])
def test_no_more_inputs_change_than_may(lab: Lab, most: int) -> None:
    """Against the best over every set of inputs that is kept frozen."""
    question: Json = {"start": START, "target": {"y": {"min": 24.0}}}

    answer = lab.invert("mixed", **question, max_changed=most)

    names = ("a", "c", "d", "kind")
    costs = []
    for free in itertools.combinations(names, most):
        features = {name: FROZEN for name in names if name not in free}
        peer = lab.invert("mixed", **question, features=features)
        costs += [only_solution(peer)["cost"]] if peer["solutions"] else []
    if not costs:
        assert answer["status"] == "infeasible"
        return
    found = only_solution(answer)
    lab.check("mixed", found)
    assert found["distance"]["changed"] <= most
    assert found["cost"] == pytest.approx(min(costs), rel=1e-6)


@pytest.mark.parametrize("most", [1, 2])
def test_the_prices_are_those_of_the_limits_that_changed_inputs_meet(lab: Lab, most: int) -> None:
    """y = 2 a + c + d / 2: a goes furthest, then d; what may not change has no price."""
    question: Json = {"start": START, "features": {"kind": FROZEN}, "max_changed": most}
    prices = {"training_range.a.max": 2.0, "training_range.d.max": 0.5}
    wanted = dict(list(prices.items())[:most])

    best = lab.invert("mixed", target={"y": "maximize"}, returned=["duals"], **question)
    missed = lab.invert("mixed", target={"y": 1000}, **question)["infeasibility"]

    assert limits_of(best) == pytest.approx(wanted)
    assert {limit["limit"]: limit["price"] for limit in missed["binding"]} == pytest.approx(wanted)


def test_several_answers_differ_in_what_they_change(lab: Lab) -> None:
    answer = lab.invert("mixed", start=START, target={"y": {"min": 14.0}}, max_changed=1, k=5)

    changed = [{change["feature"] for change in found["changes"]} for found in answer["solutions"]]
    costs = [found["cost"] for found in answer["solutions"]]
    assert sorted(map(sorted, changed)) == [["a"], ["d"], ["kind"]]
    assert costs == sorted(costs)
    for found in answer["solutions"]:
        assert found["verified"]
        lab.check("mixed", found)


def test_no_answer_of_several_breaks_the_rules_that_the_first_keeps(lab: Lab) -> None:
    """What starts too high, between two steps or at a barred level changes in all of them."""
    off_limits = lab.invert(
        "mixed",
        start={"a": 9.0, "c": 0.4, "d": 10.0, "kind": "u"},
        target={"y": 20.0},
        features={"a": {"max": 5.0}, "c": {"integer": True}},
        k=5,
    )
    barred = lab.invert(
        "mixed",
        start=START,
        target={"y": 19.0},
        features={"kind": {"levels": ["v", "w"]}},
        nearness="l1",
        k=5,
    )

    assert len(off_limits["solutions"]) > 1
    assert len(barred["solutions"]) > 1
    for found in off_limits["solutions"]:
        assert found["verified"]
        assert found["input"]["a"] <= 5.0
        assert found["input"]["c"] == round(found["input"]["c"])
    for found in barred["solutions"]:
        assert found["verified"]
        assert found["input"]["kind"] != "u"


def test_a_robust_answer_holds_at_every_corner_of_what_may_be_off(lab: Lab) -> None:
    epsilon = 0.05
    units = lab.units("identity")
    interval = {"min": 0.8, "max": 1.6}

    found = lab.checked("identity", target={"y": interval}, robust_epsilon=epsilon)

    assert found["robustness"]["input_rounding"] >= epsilon * (1 - 1e-9)
    corners = []
    for signs in itertools.product((-1, 1), repeat=3):
        off = dict(zip("acd", epsilon * np.array(signs) * units.scale, strict=True))
        row = {name: found["input"][name] + off[name] for name in "acd"}
        corners.append(lab.predict("identity", row)["y"]["y"])
    assert min(corners) >= 0.8 - 1e-9
    assert max(corners) <= 1.6 + 1e-9


def test_the_robustness_of_an_answer_is_where_its_first_corner_fails(lab: Lab) -> None:
    units = lab.units("identity")
    found = lab.checked(
        "identity", start={"a": 1, "c": 0, "d": 0.5}, target={"y": {"min": 0.5, "max": 9}}
    )
    epsilon = found["robustness"]["input_rounding"]

    def at(share: float) -> float:
        off = -share * epsilon * np.sign(units.w) * units.scale
        row = {name: found["input"][name] + by for name, by in zip("acd", off, strict=True)}
        return float(lab.predict("identity", row)["y"]["y"])

    assert at(1.0) == pytest.approx(0.5, abs=1e-9)
    assert at(0.99) > 0.5 > at(1.01)
