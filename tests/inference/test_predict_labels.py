"""Forward over HTTP where cells are missing, levels are new, and outputs are labels."""

from typing import Any

import numpy as np
import pytest

from tests.builders import Api, Json
from tests.inference.test_predict import kinds
from tests.jobs.flowers import flowers

FORGIVING: Json = {"missing": "mean", "unknown_level": "ignore"}


def test_a_missing_cell_is_filled_with_what_training_filled_it_with(api: Api) -> None:
    model = api.model_id(api.upload(kinds()), ["y"], preprocessing={"missing": "mean"})
    inputs = {item["name"]: item for item in api.get(f"/v1/models/{model}")["inputs"]}

    gaps = predictions(api, model, [{"kind": None, "a": 1.5}, {"kind": "v", "a": None}])
    filled = predictions(
        api,
        model,
        [{"kind": inputs["kind"]["fill"], "a": 1.5}, {"kind": "v", "a": inputs["a"]["fill"]}],
    )

    assert inputs["a"]["fill"] == pytest.approx(inputs["a"]["mean"])
    assert [row["y"] for row in gaps] == [row["y"] for row in filled]
    assert [row["warnings"] for row in gaps] == [[], []]


def test_that_a_cell_is_missing_counts_where_training_has_seen_it(api: Api) -> None:
    random = np.random.default_rng(0)
    a, gone = random.normal(size=200), random.random(200) < 0.3
    table = {"a": np.where(gone, "", a.astype(str)), "y": np.where(gone, 7.0, 2 * a)}

    model = api.model_id(api.upload(table), ["y"], preprocessing={"missing": "mean"})
    gap, number = predictions(api, model, [{"a": None}, {"a": 0.5}])

    assert gap["y"]["y"] == pytest.approx(7.0, abs=1e-9)
    assert number["y"]["y"] == pytest.approx(1.0, abs=1e-9)


def test_a_level_that_training_never_saw_counts_as_none_and_is_warned_of(api: Api) -> None:
    model = api.model_id(api.upload(kinds()), ["y"], preprocessing=FORGIVING)
    parameters = api.get(f"/v1/models/{model}/parameters")
    w = dict(zip(parameters["inputs"], parameters["w"][0], strict=True))

    known, unknown = predictions(api, model, [{"kind": "u", "a": 1}, {"kind": "new", "a": 1}])

    assert known["warnings"] == []
    assert unknown["warnings"] == ["'kind' has a level that training never saw; it counts as none."]
    assert known["y"]["y"] - unknown["y"]["y"] == pytest.approx(w["kind=u"])


@pytest.mark.parametrize("row", [{"kind": None, "a": 1}, {"kind": "u", "a": None}])
def test_a_missing_cell_is_refused_where_the_model_was_not_told_what_stands_for_it(
    api: Api, row: Json
) -> None:
    model = api.model_id(api.upload(kinds()), ["y"], preprocessing={"unknown_level": "ignore"})

    problem = api.post(f"/v1/models/{model}/predict", {"rows": [row]}, 422)

    assert "is missing" in problem["errors"][0]["detail"]


def test_a_number_is_no_level_even_where_unknown_ones_are_ignored(api: Api) -> None:
    model = api.model_id(api.upload(kinds()), ["y"], preprocessing=FORGIVING)

    problem = api.post(f"/v1/models/{model}/predict", {"rows": [{"kind": 3, "a": 1}]}, 422)

    assert problem["errors"][0]["pointer"] == "/rows/0/kind"


def test_a_row_names_ten_of_the_inputs_that_are_strange_to_the_model(api: Api) -> None:
    random = np.random.default_rng(0)
    table: dict[str, Any] = {f"k{index}": np.array(["u", "v"] * 20) for index in range(8)}
    table |= {f"x{index}": random.normal(size=40) for index in range(8)} | {"y": np.arange(40.0)}
    model = api.model_id(
        api.upload(table), ["y"], preprocessing=FORGIVING, regularization={"l2": 1.0}
    )
    row = {name: "new" if name.startswith("k") else 1e3 for name in table if name != "y"}

    (told,) = predictions(api, model, [row])

    assert len(told["warnings"]) == 11
    assert told["warnings"][-1] == "6 more inputs are unlike the training rows."


def test_a_row_of_the_dataset_may_carry_its_label_along(api: Api) -> None:
    data = flowers(3, gaps=0.0)
    dataset_id = api.upload(data.table)
    model = api.model_id(dataset_id, ["species"])
    rows = api.get(f"/v1/datasets/{dataset_id}/rows", limit=20)["items"]

    told = predictions(api, model, rows)

    right = sum(one["label"] == row["species"] for one, row in zip(told, rows, strict=True))
    assert right > 14


def predictions(api: Api, model: str, rows: list[Json]) -> list[Json]:
    answer: list[Json] = api.post(f"/v1/models/{model}/predict", {"rows": rows})["predictions"]
    return answer
