"""Backward over HTTP where outputs are labels or scaled."""

import numpy as np
import pytest
from scipy.optimize import NonlinearConstraint, minimize

from app.numeric.activations import Array
from tests.builders import Api, Json, plane
from tests.inference.lab import Lab, only_solution
from tests.jobs.flowers import NUMBERS

STILL: Json = {"island": {"frozen": True}}


@pytest.mark.parametrize("label", ["setosa", "versicolor", "virginica"])
@pytest.mark.parametrize("recipe", ["three species", "scored species"])
def test_a_wanted_class_is_predicted(lab: Lab, recipe: str, label: str) -> None:
    found = lab.checked(recipe, target={"species": {"class": label}})

    assert found["label"] == label
    assert lab.predict(recipe, found["input"])["label"] == label


@pytest.mark.parametrize("label", ["versicolor", "virginica"])
def test_a_class_of_two_is_predicted_from_its_side_of_the_border(lab: Lab, label: str) -> None:
    found = lab.checked("two species", target={"species": {"class": label}})
    stays = lab.checked("two species", start=found["input"], target={"species": {"class": label}})

    assert lab.predict("two species", found["input"])["label"] == label
    assert stays["text"] == "Nothing has to change."


@pytest.mark.parametrize("margin", [0.25, 2.0])
def test_a_margin_is_a_lead_in_z(lab: Lab, margin: float) -> None:
    """Of softmax, the lead is the log of the ratio of two probabilities; of sigmoid, the logit."""
    wish = {"class": "virginica", "margin": margin}
    three = lab.checked("three species", target={"species": wish})
    two = lab.checked("two species", target={"species": wish})

    p = sorted(three["prediction"].values())
    assert np.log(p[-1] / p[-2]) == pytest.approx(margin, abs=1e-6)
    q = two["prediction"]["species=virginica"]
    assert np.log(q / (1 - q)) == pytest.approx(margin, abs=1e-6)


@pytest.mark.parametrize("recipe", ["two species", "three species"])
@pytest.mark.parametrize("label", ["versicolor", "virginica"])
def test_a_probability_of_a_class_is_reached(lab: Lab, recipe: str, label: str) -> None:
    wish = {"class": label, "probability": 0.9}

    answer = lab.invert(recipe, target={"species": wish}, features=STILL)

    told = lab.predict(recipe, only_solution(answer)["input"])
    assert answer["status"] == "optimal"
    assert told["probabilities"][label] == pytest.approx(0.9, abs=2e-6)


def test_a_margin_and_a_probability_both_hold(lab: Lab) -> None:
    """Of one output the stricter of the two decides: logit 0.6 is less than a margin of 1."""
    both = {"class": "virginica", "margin": 1.0, "probability": 0.6}
    margin = {"class": "virginica", "margin": 1.0}

    found = lab.checked("two species", target={"species": both})

    alone = lab.checked("two species", target={"species": margin})
    assert found["cost"] == pytest.approx(alone["cost"], rel=1e-6)


def test_of_two_labels_one_can_be_the_likelier_and_yet_as_unlikely_as_that_allows(
    lab: Lab,
) -> None:
    wish = {"class": "virginica", "probability": 0.8}

    found = lab.checked("softmax of two", target={"species": wish, "species=virginica": "minimize"})

    assert found["prediction"]["species=virginica"] == pytest.approx(0.8, abs=1e-8)


def test_no_nearer_input_has_the_probability(lab: Lab) -> None:
    """Against scipy's SLSQP on the softmax itself, in units of training."""
    model = lab.model("three species")
    described = lab.api.get(f"/v1/models/{model}")["inputs"]
    parameters = lab.api.get(f"/v1/models/{model}/parameters")
    w, b = np.array(parameters["w"])[:, :4], np.array(parameters["b"])
    scale = np.array([column["scale"] for column in described[:4]])
    start = {name: column["mean"] for name, column in zip(NUMBERS, described, strict=False)}
    island = parameters["inputs"][4:].index("island=Skye")
    b = b + np.array(parameters["w"])[:, 4 + island]

    found = lab.checked(
        "three species",
        start={**start, "island": "Skye"},
        target={"species": {"class": "virginica", "probability": 0.9}},
        features=STILL,
        within="anything",
    )

    def log_odds(step: Array) -> Array:
        z = w @ (np.array(list(start.values())) + scale * step) + b
        return np.array([z[2] - np.logaddexp(z[0], z[1])])

    def squared_length(step: Array) -> float:
        return float(step @ step)

    peer = minimize(
        squared_length,
        np.array([0.1, 0.0, 1.0, 1.0]),
        method="SLSQP",
        constraints=NonlinearConstraint(log_odds, np.log(9), np.inf),
        tol=1e-14,
    )
    assert peer.success
    assert found["cost"] == pytest.approx(np.sqrt(peer.fun), rel=1e-5)


def test_a_probability_of_one_of_two_labels_is_met_exactly(lab: Lab) -> None:
    found = lab.checked("two species", target={"species=virginica": 0.9})

    assert found["prediction"]["species=virginica"] == pytest.approx(0.9, abs=1e-9)


@pytest.mark.parametrize(
    ("target", "low", "high"), [(0.7, 0.7, 0.7), ({"max": 0.02}, 0, 0.02), ({"min": 0.8}, 0.8, 1)]
)
def test_probabilities_of_one_of_several_labels_are_met(
    lab: Lab, target: object, low: float, high: float
) -> None:
    answer = lab.invert("three species", target={"species=setosa": target})

    found = only_solution(answer)
    assert answer["status"] in {"optimal", "feasible"}
    assert found["verified"]
    lab.check("three species", found)
    assert low - 1e-9 <= found["prediction"]["species=setosa"] <= high + 1e-9


def test_all_probabilities_at_once_are_met_exactly(lab: Lab) -> None:
    wanted = {"species=setosa": 0.1, "species=versicolor": 0.6, "species=virginica": 0.3}

    answer = lab.invert("three species", target=wanted, within="anything", features=STILL)

    assert answer["status"] == "optimal"
    assert only_solution(answer)["prediction"] == pytest.approx(wanted, abs=1e-9)


def test_a_probability_out_of_reach_is_told_with_what_can_be_reached(lab: Lab) -> None:
    features = {name: {"frozen": True} for name in (*NUMBERS[2:], "island")}

    answer = lab.invert(
        "three species",
        target={"species": {"class": "virginica", "probability": 0.95}},
        features=features,
    )

    assert answer["status"] == "infeasible"
    told = answer["infeasibility"]
    assert told["attainable"]["species=virginica"]["max"] < 0.95
    near = lab.predict("three species", told["nearest"]["input"])
    assert near["y"] == told["nearest"]["prediction"]
    assert near["label"] == told["nearest"]["label"]


@pytest.mark.parametrize("recipe", ["softmax of two", "two species"])
@pytest.mark.parametrize("goal", ["maximize", "minimize"])
def test_of_two_labels_one_can_be_made_as_likely_as_can_be(
    lab: Lab, recipe: str, goal: str
) -> None:
    """No random input within the training range does better."""
    described = lab.api.get(f"/v1/models/{lab.model(recipe)}")["inputs"]
    random = np.random.default_rng(1)
    rows = [
        {
            column["name"]: str(random.choice(column["levels"]))
            if column["kind"] == "categorical"
            else float(random.choice([column["minimum"], column["maximum"]]))
            for column in described
        }
        for _ in range(300)
    ]

    found = lab.checked(recipe, target={"species=virginica": goal})

    answers = lab.api.post(f"/v1/models/{lab.model(recipe)}/predict", {"rows": rows})
    others = [row["y"]["species=virginica"] for row in answers["predictions"]]
    best = found["prediction"]["species=virginica"]
    ends = max(others) if goal == "maximize" else min(others)
    assert best == pytest.approx(ends, rel=1e-6) or (best > ends) == (goal == "maximize")


@pytest.mark.parametrize("method", ["auto", "gradient"])
@pytest.mark.parametrize("activation", ["identity", "sigmoid"])
def test_a_target_is_in_its_own_units_however_it_was_scaled(
    lab: Lab, activation: str, method: str
) -> None:
    wanted = float(np.median(1e5 + 1e3 * plane(80)["y"]))

    found = lab.checked(f"scaled {activation}", target={"y": wanted}, method=method, tolerance=1e-9)

    assert found["prediction"]["y"] == pytest.approx(wanted, rel=1e-8)


def test_what_a_scaled_layer_can_reach_is_told_in_units_of_the_target(lab: Lab) -> None:
    y = 1e5 + 1e3 * plane(80)["y"]

    refused = lab.invert("scaled sigmoid", 422, target={"y": 0.0})
    limits = {"a": {"min": 0.0, "max": 1.0}, "c": {"min": 0.0, "max": 1.0}}
    beyond = lab.invert("scaled identity", target={"y": 0.0}, features=limits)

    assert f"between {y.min():g} and {y.max():g}" in refused["detail"]
    told = beyond["infeasibility"]["attainable"]["y"]
    assert (beyond["status"], told["min"]) == ("infeasible", pytest.approx(1e5 + 1e3 * 2, rel=1e-5))
    assert told["max"] == pytest.approx(1e5 + 1e3 * 7, rel=1e-5)
    prices = [limit["price"] for limit in beyond["infeasibility"]["binding"]]
    assert prices == pytest.approx([3000.0, 2000.0], rel=1e-4)


def test_a_class_is_wanted_on_either_database(api: Api) -> None:
    table = {"size": np.linspace(0, 1, 60), "kind": np.where(np.arange(60) > 31, "big", "small")}
    model = api.model_id(api.upload(table), ["kind"], regularization={"l2": 0.01})

    answer = api.post(
        f"/v1/models/{model}/invert",
        {"from": {"size": 0.2}, "target": {"kind": {"class": "big", "probability": 0.7}}},
    )

    assert (answer["status"], only_solution(answer)["label"]) == ("optimal", "big")


@pytest.mark.parametrize(
    "target",
    [
        {"species=setosa": 0.6, "species=versicolor": {"min": 0.6}},
        {"species=setosa": {"max": 0.3}, "species=versicolor": 0.3, "species=virginica": 0.3},
        {"species": {"class": "setosa"}, "species=setosa": {"max": 0.3}},
        {"species=setosa": 0.5, "species=versicolor": 0.5},
    ],
)
def test_probabilities_that_cannot_sum_to_one_are_excluded_at_once(lab: Lab, target: Json) -> None:
    answer = lab.invert("three species", target=target)

    assert answer["status"] == "infeasible"


def test_the_last_probability_is_what_the_others_leave(lab: Lab) -> None:
    two = {"species=setosa": 0.2, "species=versicolor": 0.3}

    found = lab.invert("three species", target=two, within="anything")
    whole = lab.invert("three species", target=two | {"species=virginica": 0.5}, within="anything")

    assert found["status"] == whole["status"] == "optimal"
    assert only_solution(found)["cost"] == pytest.approx(only_solution(whole)["cost"], rel=1e-9)
    assert only_solution(found)["prediction"]["species=virginica"] == pytest.approx(0.5, abs=1e-9)
