"""The gradient over HTTP: where it starts, where it ends, and what it says on the way."""

import numpy as np
import pytest

from tests.builders import Json
from tests.inference.lab import Lab, only_solution


def test_gradient_inversion_returns_a_falling_trace(lab: Lab) -> None:
    answer = lab.invert("sigmoid", target={"y": 0.9}, method="gradient", returned=["trace"])

    costs = answer["trace"]["cost"]
    assert (answer["status"], answer["method"], answer["gap"]) == ("feasible", "gradient", None)
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < 1e-12
    assert answer["trace"]["step"] == list(range(len(costs)))


def test_its_first_step_goes_down_the_slope_that_differences_give(lab: Lab) -> None:
    """C = 1/2 (y - target)^2 by predict at inputs a little apart, in units of training."""
    units = lab.units("sigmoid")
    start = {"a": 0.3, "c": -0.2, "d": 0.1}
    rate, apart = 0.5, 1e-5

    def cost(row: dict[str, float]) -> float:
        return 0.5 * float((lab.predict("sigmoid", row)["y"]["y"] - 0.9) ** 2)

    found = only_solution(
        lab.invert(
            "sigmoid",
            start=start,
            target={"y": 0.9},
            method="gradient",
            learning_rate=rate,
            steps_max=1,
        )
    )

    for (name, value), scale in zip(start.items(), units.scale, strict=True):
        up, down = (cost({**start, name: value + sign * apart * scale}) for sign in (1, -1))
        expected = value - rate * scale * (up - down) / (2 * apart)
        assert found["input"][name] == pytest.approx(expected, abs=1e-9)


def test_it_says_where_its_steps_were_used_up(lab: Lab) -> None:
    answer = lab.invert(
        "sigmoid",
        target={"y": 0.9},
        method="gradient",
        learning_rate=0.01,
        steps_max=3,
        returned=["trace"],
    )

    assert answer["status"] == "step_limit"
    assert not only_solution(answer)["verified"]
    assert answer["trace"]["step"] == [0, 1, 2, 3]


def test_from_the_exact_answer_there_is_nothing_left_to_do(lab: Lab) -> None:
    question: Json = {"target": {"y": 0.9}, "method": "gradient", "returned": ["trace"]}

    exact = lab.invert("sigmoid", **question, gradient_from="exact")
    start = lab.invert("sigmoid", **question)

    assert exact["trace"]["step"] == [0]
    assert len(start["trace"]["step"]) > 1
    assert only_solution(exact)["distance"]["l2"] <= only_solution(start)["distance"]["l2"] + 1e-4


def test_it_stays_in_the_training_range_and_within_limits(lab: Lab) -> None:
    units = lab.units("identity")

    answer = lab.invert(
        "identity", target={"y": 1e3}, features={"a": {"max": 0.5}}, method="gradient"
    )

    found = only_solution(answer)
    assert answer["status"] == "step_limit"
    assert found["in_training_range"]
    assert found["input"]["a"] == 0.5
    assert found["input"]["c"] == units.low[1]


def test_it_holds_categories_and_says_so(lab: Lab) -> None:
    answer = lab.invert("mixed", start={"kind": "u"}, target={"y": 30.0}, method="gradient")

    assert only_solution(answer)["input"]["kind"] == "u"
    assert "kind" in answer["warnings"][0]
    lab.check("mixed", only_solution(answer))


@pytest.mark.parametrize(
    ("target", "reached"),
    [
        ({"min": 1.0}, lambda y: y >= 1.0 - 1e-6),
        ({"max": -1.0}, lambda y: y <= -1.0 + 1e-6),
        ({"min": -4.0, "max": -1.0}, lambda y: -4.0 <= y <= -1.0 + 1e-6),
    ],
)
def test_it_goes_into_intervals(lab: Lab, target: dict[str, float], reached: object) -> None:
    found = lab.checked("identity", target={"y": target}, method="gradient")

    assert callable(reached)
    assert reached(found["prediction"]["y"])


def test_a_class_is_reached_down_the_slope(lab: Lab) -> None:
    for recipe, label in (("three species", "setosa"), ("two species", "versicolor")):
        wish = {"class": label, "probability": 0.8}
        found = lab.checked(recipe, target={"species": wish}, method="gradient")

        assert found["label"] == label
        told = lab.predict(recipe, found["input"])["probabilities"]
        assert told[label] >= 0.8 - 1e-6


def test_weights_decide_between_targets_that_cannot_both_hold(lab: Lab) -> None:
    features = {"c": {"frozen": True}, "d": {"frozen": True}}
    start = {"a": 0.0, "c": 0.0, "d": 0.0}

    def reached(weight: float) -> float:
        answer = lab.invert(
            "two outputs",
            start=start,
            target={"p": {"value": 1.0, "weight": weight}, "q": -1.0},
            features=features,
            method="gradient",
        )
        return float(only_solution(answer)["input"]["a"])

    # p = q = a: the minimum of (weight (a - 1))^2 + (a + 1)^2 is at (w^2 - 1) / (w^2 + 1).
    assert reached(1.0) == pytest.approx(0.0, abs=1e-6)
    assert reached(2.0) == pytest.approx(0.6, abs=1e-6)
    assert np.isfinite(reached(3.0))
