"""Backward over HTTP where outputs are labels or scaled, and inputs have gaps."""

import numpy as np
import pytest

from tests.builders import Api, Json, plane
from tests.inference.test_invert import invert, only_solution, predicted
from tests.inference.test_predict import kinds
from tests.jobs.flowers import flowers

PENALTY: Json = {"regularization": {"l2": 0.01}}


def test_a_probability_of_one_of_two_labels_is_met_exactly(api: Api) -> None:
    model = api.model_id(api.upload(flowers(2, gaps=0.0).table), ["species"], **PENALTY)

    answer = invert(api, model, target={"species=virginica": 0.9})

    found = only_solution(answer)
    assert (answer["method"], answer["status"], found["verified"]) == ("exact", "optimal", True)
    told = predicted(api, model, found["input"])
    assert told["species=virginica"] == pytest.approx(0.9, abs=1e-9)


def test_a_probability_of_one_of_several_labels_is_found_by_gradient(api: Api) -> None:
    model = api.model_id(api.upload(flowers(3, gaps=0.0).table), ["species"], **PENALTY)

    answer = invert(api, model, target={"species=setosa": 0.7}, tolerance=1e-6)
    refused = invert(api, model, 422, target={"species=setosa": 0.7}, method="exact")

    found = only_solution(answer)
    assert (answer["method"], answer["status"], found["verified"]) == ("gradient", "feasible", True)
    told = predicted(api, model, found["input"])
    assert told["species=setosa"] == pytest.approx(0.7, abs=1e-5)
    assert refused["errors"][0]["pointer"] == "/method"


@pytest.mark.parametrize("method", ["exact", "gradient"])
@pytest.mark.parametrize("activation", ["identity", "sigmoid"])
def test_a_target_is_in_its_own_units_however_it_was_scaled(
    api: Api, activation: str, method: str
) -> None:
    table = plane(80)
    table["y"] = 1e5 + 1e3 * table["y"]
    model = api.model_id(
        api.upload(table),
        ["y"],
        activation=activation,
        preprocessing={"target_scaling": "min_max"},
        regularization={"l2": 1e-6},
    )
    wanted = float(np.median(table["y"]))

    answer = invert(api, model, target={"y": wanted}, method=method, tolerance=1e-9)

    found = only_solution(answer)
    assert found["verified"]
    assert answer["status"] == {"exact": "optimal", "gradient": "feasible"}[method]
    assert predicted(api, model, found["input"])["y"] == pytest.approx(wanted, rel=1e-8)


def test_what_a_scaled_layer_can_reach_is_told_in_units_of_the_target(api: Api) -> None:
    table = plane(80)
    table["y"] = 1e5 + 1e3 * table["y"]
    options: Json = {"preprocessing": {"target_scaling": "min_max"}}
    dataset_id = api.upload(table)
    curved = api.model_id(dataset_id, ["y"], activation="sigmoid", **options)
    plain = api.model_id(dataset_id, ["y"], **options)

    refused = invert(api, curved, 422, target={"y": 0.0})
    limits = {"a": {"min": 0.0, "max": 1.0}, "c": {"min": 0.0, "max": 1.0}}
    beyond = invert(api, plain, target={"y": 0.0}, features=limits)

    assert f"between {table['y'].min():g} and {table['y'].max():g}" in refused["detail"]
    told = beyond["infeasibility"]["attainable"]["y"]
    assert (beyond["status"], told["min"]) == ("infeasible", pytest.approx(1e5 + 1e3 * 2))
    assert told["max"] == pytest.approx(1e5 + 1e3 * 7)


def test_an_answer_has_no_gaps_though_the_model_could_take_them(api: Api) -> None:
    random = np.random.default_rng(0)
    a, gone = random.normal(size=200), random.random(200) < 0.3
    table = {"a": np.where(gone, "", a.astype(str)), "c": random.normal(size=200)}
    table["y"] = np.where(gone, 7.0, 2 * a) + table["c"]
    model = api.model_id(api.upload(table), ["y"], preprocessing={"missing": "mean"})

    found = only_solution(invert(api, model, target={"y": 4.0}))

    assert found["verified"]
    assert predicted(api, model, found["input"])["y"] == pytest.approx(4.0, abs=1e-9)


def test_a_start_has_a_level_that_the_model_knows(api: Api) -> None:
    model = api.model_id(api.upload(kinds()), ["y"], preprocessing={"unknown_level": "ignore"})

    problem = invert(api, model, 422, start={"kind": "new"}, target={"y": 4.0})

    assert problem["errors"][0]["pointer"] == "/from/kind"
    assert "u, v" in problem["errors"][0]["detail"]
