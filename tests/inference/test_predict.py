"""Forward over HTTP."""

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from tests.builders import Api, Json, plane


def test_predictions_are_those_of_the_plane_it_was_trained_on(api: Api) -> None:
    model = api.model_id(api.upload(plane()), ["y"])

    answer = api.post(
        f"/v1/models/{model}/predict", {"rows": [{"a": 1, "c": 2.5}, {"a": 0, "c": 0}]}
    )

    values = [prediction["y"]["y"] for prediction in answer["predictions"]]
    assert values == pytest.approx([2 - 7.5 + 5, 5], abs=1e-10)
    assert (answer["model_id"], answer["model_version"]) == (model, 1)


def test_rows_by_name_and_a_matrix_give_the_same_answer(api: Api) -> None:
    model = api.model_id(api.upload(kinds()), ["y"])

    by_name = api.post(f"/v1/models/{model}/predict", {"rows": [{"kind": "v", "a": 3}]})
    matrix = api.post(f"/v1/models/{model}/predict", {"x": [["v", 3]]})

    assert by_name == matrix


def test_a_row_of_the_dataset_may_carry_its_target_along(api: Api) -> None:
    dataset_id = api.upload(plane())
    model = api.model_id(dataset_id, ["y"])
    row = api.get(f"/v1/datasets/{dataset_id}/rows", limit=1)["items"][0]

    answer = api.post(f"/v1/models/{model}/predict", {"rows": [row]})

    assert answer["predictions"][0]["y"]["y"] == pytest.approx(row["y"], abs=1e-9)


def test_predictions_equal_those_of_scikit_learn_on_real_size_batches(api: Api) -> None:
    table = plane(rows=500, noise=1.0)
    model = api.model_id(api.upload(table), ["y"], validation={"fraction": 0.0})
    x = np.column_stack([table["a"], table["c"]])
    peer = LinearRegression().fit(x, table["y"])
    batch = np.random.default_rng(3).normal(size=(3000, 2))

    answer = api.post(f"/v1/models/{model}/predict", {"x": batch.tolist()})

    values = [prediction["y"]["y"] for prediction in answer["predictions"]]
    assert values == pytest.approx(peer.predict(batch).tolist(), abs=1e-9)


def test_a_value_outside_the_training_range_is_answered_with_a_warning(api: Api) -> None:
    model = api.model_id(api.upload(plane()), ["y"])

    answer = api.post(
        f"/v1/models/{model}/predict", {"rows": [{"a": 10, "c": 0}, {"a": 99, "c": 0}]}
    )

    inside, outside = (prediction["warnings"] for prediction in answer["predictions"])
    assert inside == []
    assert len(outside) == 1
    assert "'a' is outside the training range" in outside[0]


BAD_BODIES: list[tuple[str, Json, str, str]] = [
    ("a name is missing", {"rows": [{"kind": "u"}]}, "/rows/0", "'a' is missing"),
    ("a name is unknown", {"rows": [{"kind": "u", "a": 1, "b": 2}]}, "/rows/0/b", "not an input"),
    ("an unknown level", {"rows": [{"kind": "w", "a": 1}]}, "/rows/0/kind", "trained with: u, v"),
    ("text for a number", {"rows": [{"kind": "u", "a": "1"}]}, "/rows/0/a", "takes a number"),
    ("true for a number", {"rows": [{"kind": "u", "a": True}]}, "/rows/0/a", "takes a number"),
    ("a missing value", {"rows": [{"kind": "u", "a": None}]}, "/rows/0/a", "is missing"),
    ("a list for a number", {"rows": [{"kind": "u", "a": [1]}]}, "/rows/0", "Expected"),
    ("a short row", {"x": [["u", 1], ["u"]]}, "/x/1", "Row 2 has 1 values for 2 inputs"),
    ("a level in the wrong place", {"x": [[1, "u"]]}, "/x/0/0", "levels"),
]


@pytest.mark.parametrize(
    ("body", "pointer", "part"), [row[1:] for row in BAD_BODIES], ids=[row[0] for row in BAD_BODIES]
)
def test_a_value_that_does_not_fit_is_pointed_at(
    api: Api, body: Json, pointer: str, part: str
) -> None:
    model = api.model_id(api.upload(kinds()), ["y"])

    problem = api.post(f"/v1/models/{model}/predict", body, 422)

    found = [fault for fault in problem["errors"] if fault["pointer"].startswith(pointer)]
    assert found, problem
    assert part in found[0]["detail"]


def test_values_that_overflow_the_layer_are_refused_and_not_answered_as_null(api: Api) -> None:
    model = api.model_id(api.upload(plane()), ["y"])

    problem = api.post(f"/v1/models/{model}/predict", {"rows": [{"a": 1e308, "c": -1e308}]}, 422)

    assert problem["code"] == "invalid_input"


def kinds() -> dict[str, Any]:
    return {
        "kind": ["u", "v"] * 20,
        "a": np.linspace(0, 5, 40),
        "y": np.tile([1.0, 2.0], 20) + np.linspace(0, 5, 40),
    }
