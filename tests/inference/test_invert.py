"""Backward over HTTP: every answer is checked by asking predict."""

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, minimize

from app.numeric.activations import Array
from tests.builders import Api, Json, plane
from tests.inference.lab import Lab, only_solution

AUTO = ("closed_form", "qp", "lp", "milp", "miqp")


def test_the_answer_attains_the_target_when_predict_is_asked(api: Api) -> None:
    model = api.model_id(api.upload(plane()), ["y"])

    answer = api.post(f"/v1/models/{model}/invert", {"target": {"y": 12.5}})

    found = only_solution(answer)
    assert (answer["status"], answer["method"], answer["gap"]) == ("optimal", "closed_form", 0.0)
    assert (answer["model_id"], answer["model_version"]) == (model, 1)
    told = api.post(f"/v1/models/{model}/predict", {"rows": [found["input"]]})["predictions"][0]
    assert told["y"] == found["prediction"] == {"y": pytest.approx(12.5, abs=1e-9)}
    assert found["verified"]


def test_no_nearer_input_gives_the_target(lab: Lab) -> None:
    """Against scipy's SLSQP on the same question in the same units."""
    units = lab.units("noisy plane")
    start = np.array([10.0, 0.5])

    found = lab.checked(
        "noisy plane",
        start={"a": 10.0, "c": 0.5},
        target={"y": 20.0},
        features={"c": {"min": 0.0, "max": 0.6}},
        within="anything",
    )

    short = 20.0 - units.b - units.w @ start
    peer = minimize(
        squared_length,
        np.zeros(2),
        method="SLSQP",
        constraints=LinearConstraint(units.w * units.scale, short, short),
        bounds=Bounds([-np.inf, -0.5 / units.scale[1]], [np.inf, 0.1 / units.scale[1]]),
        tol=1e-14,
    )
    assert found["distance"]["l2"] == pytest.approx(np.sqrt(peer.fun), rel=1e-6)
    assert found["cost"] == pytest.approx(found["distance"]["l2"], rel=1e-12)


@pytest.mark.parametrize("method", ["auto", "gradient"])
def test_frozen_inputs_and_limits_are_respected_to_the_last_bit(lab: Lab, method: str) -> None:
    found = lab.checked(
        "identity",
        start={"a": 0.3, "c": 0.1, "d": 0.7},
        target={"y": 1.2},
        features={"a": {"frozen": True}, "c": {"min": -0.2, "max": 0.3}},
        method=method,
    )

    assert found["input"]["a"] == 0.3
    assert -0.2 <= found["input"]["c"] <= 0.3
    assert "a" not in {change["feature"] for change in found["changes"]}


@pytest.mark.parametrize("method", ["auto", "gradient"])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "softplus", "exp", "relu"])
def test_curved_activations_invert_both_ways(lab: Lab, activation: str, method: str) -> None:
    found = lab.checked(activation, target={"y": 0.6}, method=method, tolerance=1e-8)

    assert found["prediction"]["y"] == pytest.approx(0.6, abs=1e-8)


def test_where_relu_is_flat_every_input_below_serves(lab: Lab) -> None:
    found = lab.checked("relu", start={"a": -2, "c": 0, "d": -1}, target={"y": 0.0})
    reached = lab.checked("relu", target={"y": {"max": 0.0}})

    assert found["text"] == "Nothing has to change."
    assert reached["prediction"]["y"] == 0.0


def test_an_interval_is_entered_at_its_nearer_end(lab: Lab) -> None:
    low = lab.checked("plane", start={"a": 5, "c": 0}, target={"y": {"min": 20, "max": 25}})
    high = lab.checked("plane", start={"a": 16, "c": 0}, target={"y": {"min": 20, "max": 25}})
    inside = lab.checked("plane", start={"a": 9, "c": 0}, target={"y": {"min": 20, "max": 25}})
    open_end = lab.checked("plane", start={"a": 5, "c": 0}, target={"y": {"min": 20}})

    assert low["prediction"]["y"] == pytest.approx(20.0, abs=1e-8)
    assert high["prediction"]["y"] == pytest.approx(25.0, abs=1e-8)
    assert inside["text"] == "Nothing has to change."
    assert inside["robustness"]["input_rounding"] > 0.0
    assert open_end["input"] == low["input"]


@pytest.mark.parametrize("goal", ["maximize", "minimize"])
@pytest.mark.parametrize("spelt", ["short", "long"])
def test_a_goal_goes_to_the_end_of_what_can_be_reached(lab: Lab, goal: str, spelt: str) -> None:
    """By hand: each input at the end of its training range that its weight points to."""
    units = lab.units("sigmoid")
    upwards = (units.w > 0) == (goal == "maximize")
    ends = np.where(upwards, units.high, units.low)

    found = lab.checked("sigmoid", target={"y": goal if spelt == "short" else {"goal": goal}})

    assert list(found["input"].values()) == ends.tolist()
    best = 1 / (1 + np.exp(-(units.w @ ends + units.b)))
    assert found["prediction"]["y"] == pytest.approx(best, rel=1e-8)


def test_of_all_inputs_that_go_as_far_the_nearest_is_given(lab: Lab) -> None:
    """With a + c held to 1 and y = 2 a + c + ..., d alone decides how far a must go."""
    found = lab.checked(
        "mixed",
        start={"a": 2, "c": 1, "d": 10, "kind": "u"},
        target={"y": "maximize"},
        features={"a": {"max": 3}, "c": {"max": 1.5}, "d": {"max": 12}, "kind": {"frozen": True}},
        constraints=[{"terms": {"a": 1, "c": 1}, "op": "<=", "value": 4}],
    )

    assert found["input"] == {
        "a": pytest.approx(3.0, abs=1e-6),
        "c": pytest.approx(1.0, abs=1e-6),
        "d": pytest.approx(12.0, abs=1e-6),
        "kind": "u",
    }


def test_a_goal_without_end_is_told_as_such(lab: Lab) -> None:
    answer = lab.invert("plane", target={"y": "maximize"}, within="anything")

    assert (answer["status"], answer["solutions"]) == ("unbounded", [])
    assert "no largest value" in answer["warnings"][0]


def test_a_goal_and_an_interval_of_another_output_hold_together(lab: Lab) -> None:
    found = lab.checked("two outputs", target={"p": "maximize", "q": {"min": 1.0, "max": 1.5}})
    alone = lab.checked("two outputs", target={"p": "maximize"})

    assert 1.0 - 1e-9 <= found["prediction"]["q"] <= 1.5 + 1e-9
    assert found["prediction"]["p"] <= alone["prediction"]["p"] + 1e-9


def test_several_outputs_are_met_at_once_or_left_free(lab: Lab) -> None:
    both = lab.checked("two outputs", target={"p": 1.0, "q": 1.5})
    one = lab.checked("two outputs", target={"q": 1.5})

    assert both["prediction"] == pytest.approx({"p": 1.0, "q": 1.5}, abs=1e-9)
    assert one["prediction"]["q"] == pytest.approx(1.5, abs=1e-9)
    assert one["distance"]["l2"] <= both["distance"]["l2"] + 1e-12


def test_of_several_goals_the_weighted_sum_counts(lab: Lab) -> None:
    """p has w (1, 2, 3) and q (1, -1, 0.5), so that 5 q outweighs p in c."""
    described = lab.api.get(f"/v1/models/{lab.model('two outputs')}")["inputs"]
    low = {column["name"]: column["minimum"] for column in described}

    even = lab.checked("two outputs", target={"p": "maximize", "q": "maximize"})
    heavy = {"goal": "maximize", "weight": 5.0}
    tilted = lab.checked("two outputs", target={"p": "maximize", "q": heavy})

    assert even["input"]["c"] > 0.0
    assert tilted["input"]["c"] == pytest.approx(low["c"], abs=1e-6)


def test_answers_stay_where_the_model_was_trained_unless_told_otherwise(lab: Lab) -> None:
    kept = lab.invert("plane", target={"y": 100.0})
    let_go = lab.checked("plane", target={"y": 100.0}, within="anything")
    moved = lab.checked("plane", target={"y": 100.0}, features={"a": {"max": 60.0}})

    assert kept["status"] == "infeasible"
    assert not let_go["in_training_range"]
    assert not moved["in_training_range"]
    assert moved["input"]["a"] <= 60.0


def test_a_start_outside_the_training_range_may_stay_there(lab: Lab) -> None:
    high = lab.units("plane").high[0]

    found = lab.checked(
        "plane", start={"a": high + 9.0, "c": 0.0}, target={"y": {"max": 2 * (high + 5.0) + 5}}
    )

    assert high < found["input"]["a"] <= high + 9.0


def test_the_text_says_what_to_do(lab: Lab) -> None:
    raised = lab.checked(
        "plane",
        start={"a": 8, "c": 0},
        target={"y": 23.0},
        features={"c": {"frozen": True}},
    )
    kept = lab.checked("plane", start={"a": 8, "c": 0}, target={"y": 21.0})
    switched = lab.checked(
        "mixed",
        start={"a": 5, "c": 0, "d": 20, "kind": "u"},
        target={"y": 27.0},
        features={name: {"frozen": True} for name in ("a", "c", "d")},
    )

    assert raised["text"] == "Raise a by 1."
    assert kept["text"] == "Nothing has to change."
    assert switched["text"] == "Set kind to w."
    assert switched["changes"] == [
        {"feature": "kind", "from": "u", "to": "w", "delta": None, "cost": 1.0}
    ]
    assert switched["distance"] == {"l1": 1.0, "l2": 1.0, "linf": 1.0, "changed": 1}


def test_changes_add_up_to_the_answer(lab: Lab) -> None:
    start = {"a": 2.0, "c": 1.0, "d": 10.0, "kind": "u"}

    found = lab.checked("mixed", start=start, target={"y": 30.0})

    told = {change["feature"]: change for change in found["changes"]}
    for name, change in told.items():
        assert (change["from"], change["to"]) == (start[name], found["input"][name])
    assert [change["cost"] for change in found["changes"]] == sorted(
        (change["cost"] for change in told.values()), reverse=True
    )
    assert {name for name in start if found["input"][name] != start[name]} == set(told)


def test_verified_is_as_strict_as_the_tolerance(lab: Lab) -> None:
    strict = lab.checked("identity", target={"y": 1.25}, tolerance=1e-9)
    loose = lab.invert(
        "identity", target={"y": 1.25}, method="gradient", tolerance=0.5, learning_rate=0.05
    )

    assert strict["prediction"]["y"] == pytest.approx(1.25, abs=1.25e-9)
    assert loose["status"] == "feasible"
    assert 1e-3 < abs(only_solution(loose)["prediction"]["y"] - 1.25) <= 0.5 * 1.25


def squared_length(step: Array) -> float:
    return float(step @ step)


BESIDE: Json = {"a": 14.0, "c": 0.0, "d": 20.0, "kind": "u"}


@pytest.mark.parametrize("nearness", ["l1", "l2", "linf"])
@pytest.mark.parametrize("feature", [{}, {"integer": True}, {"step": 2}])
def test_a_start_beside_the_training_range_may_stay_whatever_its_steps(
    lab: Lab, feature: Json, nearness: str
) -> None:
    answer = lab.invert(
        "mixed",
        start=BESIDE,
        target={"y": {"min": 30}},
        features={"a": feature},
        nearness=nearness,
    )

    assert (answer["status"], answer["gap"]) == ("optimal", 0.0)
    assert only_solution(answer)["text"] == "Nothing has to change."


def test_a_start_beside_the_range_may_go_to_any_multiple_on_the_way_back(lab: Lab) -> None:
    """y = 2 a + c + d / 2: of the multiples of 3 between the range and the start only 12 fits."""
    found = lab.checked(
        "mixed",
        start=BESIDE,
        target={"y": {"min": 33, "max": 35}},
        features={
            "a": {"step": 3},
            "c": {"frozen": True},
            "d": {"frozen": True},
            "kind": {"frozen": True},
        },
    )

    assert found["input"] == BESIDE | {"a": 12.0}


def test_nothing_nearer_than_the_start_is_looked_for(lab: Lab) -> None:
    """In units of training the start is no whole multiple to the last bit."""
    for start in np.arange(0.7, 9.0, 0.7):
        answer = lab.invert(
            "mixed",
            start=BESIDE | {"a": float(start)},
            target={"y": {"min": 1}},
            features={"a": {"step": 0.7}},
            nearness="l1",
        )

        assert (answer["status"], answer["gap"]) == ("optimal", 0.0)
