"""Jobs over HTTP, on both databases; the worker's code runs in this process."""

from typing import Any

import numpy as np
import pytest

from tests.builders import Api, Json, plane


def test_a_plane_is_learned_to_the_last_digits(api: Api) -> None:
    dataset_id = api.upload(plane())

    job = api.train(dataset_id, ["y"])

    assert (job["state"], job["stop_reason"], job["terminal"]) == ("succeeded", "converged", True)
    parameters = api.get(f"/v1/models/{job['model_id']}/parameters", space="raw")
    assert parameters["w"][0] == pytest.approx([2.0, -3.0], rel=1e-12)
    assert parameters["b"] == pytest.approx([5.0], rel=1e-12)
    assert job["scores"]["validation"]["r2"] == pytest.approx(1.0, abs=1e-12)


def test_the_answer_says_what_every_default_came_to(api: Api) -> None:
    job = api.queue(api.upload(plane()), ["y"])

    assert (job["state"], job["allowed_actions"]) == ("queued", ["cancel", "pause"])
    assert job["spec"]["inputs"] == ["a", "c"]
    assert job["spec"]["solver"]["name"] == "closed_form"
    assert "closed form" in job["spec"]["solver"]["reason"]


def test_validating_creates_nothing(api: Api) -> None:
    dataset_id = api.upload(plane())

    spec = api.post(
        "/v1/jobs", {"dataset_id": dataset_id, "targets": ["y"]}, 200, validate_only=True
    )

    assert spec["inputs"] == ["a", "c"]
    assert api.get("/v1/jobs")["items"] == []


def test_a_location_leads_to_the_job(api: Api) -> None:
    body = {"dataset_id": api.upload(plane()), "targets": ["y"]}

    response = api.client.post("/v1/jobs", json=body)

    assert response.status_code == 202
    assert api.get(response.headers["location"])["id"] == response.json()["id"]


def test_lists_give_each_job_once_newest_first(api: Api) -> None:
    dataset_id = api.upload(plane())
    created = [api.queue(dataset_id, ["y"])["id"] for _ in range(5)]

    seen: list[str] = []
    cursor: str | None = None
    while True:
        answer = api.get("/v1/jobs", limit=2, cursor=cursor)
        seen += [job["id"] for job in answer["items"]]
        cursor = answer["next_cursor"]
        if cursor is None:
            break

    assert sorted(seen) == sorted(created)
    assert seen == sorted(seen, reverse=True)


def test_the_history_shows_a_falling_cost(api: Api) -> None:
    job = api.train(
        api.upload(plane(noise=0.3)), ["y"], solver={"name": "gradient_descent", "epochs": 200}
    )

    history = api.get(f"/v1/jobs/{job['id']}/history")

    assert history["epoch"] == list(range(history["epoch_count"]))
    assert history["cost"][-1] < 0.01 * history["cost"][0]
    assert history["cost"][-1] == job["progress"]["cost"]
    assert all(value is not None for value in history["validation_cost"])


def test_a_long_history_is_thinned_on_request(api: Api) -> None:
    solver = {"name": "gradient_descent", "epochs": 150, "tolerance": 0.0, "learning_rate": 1e-4}
    job = api.train(api.upload(plane()), ["y"], solver=solver, early_stopping=None)

    history = api.get(f"/v1/jobs/{job['id']}/history", max_points=10)

    assert history["epoch_count"] == 151
    assert len(history["epoch"]) <= 10
    assert {0, 150} <= set(history["epoch"])


@pytest.mark.parametrize("early_stopping", [None, {"patience": 5}])
def test_a_divergent_job_fails_with_advice_and_no_model(
    api: Api, early_stopping: Json | None
) -> None:
    solver = {"name": "gradient_descent", "learning_rate": 1e6}

    job = api.train(api.upload(plane()), ["y"], solver=solver, early_stopping=early_stopping)

    assert (job["state"], job["error"]["code"]) == ("failed", "diverged")
    assert "learning_rate" in job["error"]["detail"]
    assert job["model_id"] is None
    assert api.get("/v1/models")["items"] == []


def test_cancelling_twice_is_the_same_as_once(api: Api) -> None:
    job = api.queue(api.upload(plane()), ["y"])

    first = api.post(f"/v1/jobs/{job['id']}/cancel", None, 200)
    second = api.post(f"/v1/jobs/{job['id']}/cancel", None, 200)
    api.run(job["id"], 1)

    assert first["state"] == second["state"] == "cancelled"
    assert api.get(f"/v1/jobs/{job['id']}")["state"] == "cancelled"


def test_a_job_that_has_succeeded_cannot_be_cancelled(api: Api) -> None:
    job = api.train(api.upload(plane()), ["y"])

    problem = api.post(f"/v1/jobs/{job['id']}/cancel", None, 409)

    assert problem["code"] == "job_ended"


def test_a_job_that_is_delivered_again_after_its_end_changes_nothing(api: Api) -> None:
    job = api.train(api.upload(plane()), ["y"])

    api.run(job["id"], 1)

    assert api.get(f"/v1/jobs/{job['id']}") == job
    assert len(api.get("/v1/models")["items"]) == 1


def test_the_same_request_gives_the_same_bits(api: Api) -> None:
    dataset_id = api.upload(plane(noise=1.0))
    spec = {"solver": {"name": "gradient_descent", "batch_size": 7, "epochs": 30}, "seed": 5}

    models = [api.model_id(dataset_id, ["y"], **spec) for _ in range(2)]

    digests = {api.get(f"/v1/models/{model}")["parameters_sha256"] for model in models}
    assert len(digests) == 1


def test_models_of_one_name_count_their_versions(api: Api) -> None:
    dataset_id = api.upload(plane())

    models = [api.model_id(dataset_id, ["y"], name="strength") for _ in range(3)]

    assert [api.get(f"/v1/models/{model}")["version"] for model in models] == [1, 2, 3]


def test_a_dataset_that_a_live_job_needs_is_kept(api: Api) -> None:
    dataset_id = api.upload(plane())
    job = api.queue(dataset_id, ["y"])

    refused = api.client.delete(f"/v1/datasets/{dataset_id}")
    api.run(job["id"], 1)
    deleted = api.client.delete(f"/v1/datasets/{dataset_id}")

    assert (refused.status_code, refused.json()["code"]) == (409, "dataset_in_use")
    assert deleted.status_code == 204
    assert api.get(f"/v1/jobs/{job['id']}")["dataset_id"] == dataset_id
    assert api.get(f"/v1/datasets/{dataset_id}", 404)["code"] == "dataset_not_found"


def test_categories_and_several_targets_train_together(api: Api) -> None:
    kinds = np.array(["x", "y", "z"] * 20)
    shift = np.select([kinds == "x", kinds == "y"], [1.0, 2.0], 4.0)
    a = np.linspace(0, 1, 60)
    dataset_id = api.upload({"kind": kinds, "a": a, "p": shift + a, "q": 3 * shift - a})

    job = api.train(dataset_id, ["p", "q"])
    answer = api.post(f"/v1/models/{job['model_id']}/predict", {"rows": [{"kind": "z", "a": 0.5}]})

    assert job["scores"]["validation"]["r2"] == pytest.approx(1.0, abs=1e-9)
    assert answer["predictions"][0]["y"] == pytest.approx({"p": 4.5, "q": 11.5}, abs=1e-9)


BAD_SPECS: list[tuple[str, Json, str, str]] = [
    ("unknown target", {"targets": ["nope"]}, "/targets/0", "has no column"),
    ("target twice", {"targets": ["y", "y"]}, "/targets/1", "named twice"),
    ("unknown input", {"inputs": ["a", "nope"]}, "/inputs/1", "has no column"),
    ("target among inputs", {"inputs": ["a", "y"]}, "/inputs/1", "also a target"),
    ("missing cells", {"inputs": ["a", "gappy"]}, "/inputs/1", "1 missing cells"),
    ("missing cells by default", {}, "/inputs", "1 missing cells"),
    (
        "out of reach",
        {"inputs": ["a"], "activation": "sigmoid"},
        "/targets/0",
        "target_scaling to 'min_max'",
    ),
    (
        "out of reach of tanh",
        {"inputs": ["a"], "activation": "tanh"},
        "/targets/0",
        "can only reach [-1, 1]",
    ),
    (
        "negative under relu",
        {"inputs": ["a"], "activation": "relu", "targets": ["negative"]},
        "/targets/0",
        "Use activation 'identity'",
    ),
    (
        "cost without its activation",
        {
            "inputs": ["a"],
            "targets": ["share"],
            "activation": "tanh",
            "cost": "cross_entropy",
        },
        "/cost",
        "goes with activation sigmoid or softmax",
    ),
    (
        "solver that does not fit",
        {
            "inputs": ["a"],
            "targets": ["share"],
            "activation": "sigmoid",
            "solver": {"name": "closed_form"},
        },
        "/solver/name",
        "use solver lbfgs",
    ),
    (
        "setting that the solver does not read",
        {"inputs": ["a"], "solver": {"name": "closed_form", "learning_rate": 0.1}},
        "/solver/name",
        "has no learning_rate",
    ),
    (
        "weights that must be 0 or more, by a solver that cannot",
        {"inputs": ["a"], "regularization": {"l1": 0.1}, "solver": {"name": "lbfgs"}},
        "/solver/name",
        "use solver proximal_newton",
    ),
    (
        "labels beside numbers",
        {"inputs": ["a"], "targets": ["y", "kind"]},
        "/targets/1",
        "labels are learned alone",
    ),
    (
        "scaled labels",
        {
            "inputs": ["a"],
            "targets": ["kind"],
            "preprocessing": {"target_scaling": "standard"},
        },
        "/preprocessing/target_scaling",
        "have no scale",
    ),
    (
        "class weights without classes",
        {"inputs": ["a"], "class_weight": "balanced"},
        "/class_weight",
        "Only labels",
    ),
    ("unknown weight", {"inputs": ["a"], "sample_weight": "w"}, "/sample_weight", "no column 'w'"),
    ("text weight", {"inputs": ["a"], "sample_weight": "kind"}, "/sample_weight", "holds text"),
    (
        "negative weight",
        {"inputs": ["a"], "sample_weight": "negative"},
        "/sample_weight",
        "least 0",
    ),
    (
        "weight among inputs",
        {"inputs": ["a", "share"], "sample_weight": "share"},
        "/inputs/1",
        "also the sample weight",
    ),
    (
        "groups without a column",
        {"inputs": ["a"], "validation": {"method": "group"}},
        "/validation/column",
        "needs the column that holds its groups",
    ),
    (
        "strata of numbers",
        {"inputs": ["a"], "validation": {"method": "stratified"}},
        "/validation/column",
        "naming a column of labels",
    ),
    (
        "random with a column",
        {"inputs": ["a"], "validation": {"column": "c"}},
        "/validation/column",
        "reads no column",
    ),
    (
        "time told by text",
        {"inputs": ["a"], "validation": {"method": "chronological", "column": "kind"}},
        "/validation/column",
        "told by a number",
    ),
    (
        "gaps in the groups",
        {"inputs": ["a"], "validation": {"method": "group", "column": "gappy"}},
        "/validation/column",
        "missing cells",
    ),
    (
        "nothing to train on",
        {"inputs": ["a"], "validation": {"fraction": 0.99}},
        "/validation/fraction",
        "none would be left",
    ),
    ("unknown activation", {"activation": "swish"}, "/activation", "must be one of"),
    ("unknown field", {"solver": {"rate": 3}}, "/solver/rate", "not permitted"),
    ("text for a number", {"solver": {"epochs": "5"}}, "/solver/epochs", "valid integer"),
    ("true for a number", {"seed": True}, "/seed", "valid integer"),
    ("no epochs", {"solver": {"epochs": 0}}, "/solver/epochs", "greater than or equal to 1"),
    (
        "unknown policy",
        {"preprocessing": {"missing": "drop"}},
        "/preprocessing/missing",
        "must be one of",
    ),
]


@pytest.mark.parametrize(
    ("change", "pointer", "part"), [row[1:] for row in BAD_SPECS], ids=[row[0] for row in BAD_SPECS]
)
def test_a_spec_that_does_not_fit_is_refused_with_a_pointer_and_a_remedy(
    api: Api, change: Json, pointer: str, part: str
) -> None:
    table: dict[str, Any] = plane(8)
    table |= {"kind": ["u", "v"] * 4, "gappy": [1, 2, 3, "", 5, 6, 7, 8]}
    table |= {"share": np.linspace(0, 1, 8), "negative": -np.arange(8.0)}
    dataset_id = api.upload(table)

    problem = api.post("/v1/jobs", {"dataset_id": dataset_id, "targets": ["y"], **change}, 422)

    found = [fault for fault in problem["errors"] if fault.get("pointer") == pointer]
    assert found, problem
    assert part in found[0]["detail"]
    assert api.get("/v1/jobs")["items"] == []
