"""The OpenAPI document is true: what it promises is what the service does."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import schemathesis

from app.main import create_app
from app.settings import Settings
from tests.api.conftest import Served
from tests.builders import Json, plane
from tests.servers import serving

SNAPSHOT = Path(__file__).with_name("openapi.json")
PROBLEM = "application/problem+json"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
)
EXAMPLES_MAX = 3
# What only a job answers that a worker runs, or that has run; see tests/jobs/test_actions.py
# and test_waiting.py.
WHILE_IT_RUNS = {
    ("cancelJob", 202),
    ("createJob", 201),
    ("pauseJob", 202),
    ("resumeJob", 200),
    ("stopJob", 200),
    ("stopJob", 202),
}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Json:
    document: Json = create_app(Settings(data_dir=tmp_path_factory.mktemp("none"))).openapi()
    return document


def operations(document: Json) -> Iterator[tuple[str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_the_document_is_the_one_that_was_committed(document: Json) -> None:
    """Refresh it with `python -m tests.api.test_schema`, and read the difference."""
    committed = SNAPSHOT.read_text() if SNAPSHOT.exists() else ""

    assert written(document) == committed, (
        "The API has changed. Run `python -m tests.api.test_schema`, and commit "
        "tests/api/openapi.json if every difference is meant and none of them breaks a client."
    )


def written(document: Json) -> str:
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def test_every_operation_has_a_name_and_a_summary_of_its_own(document: Json) -> None:
    names = [operation["operationId"] for _, operation in operations(document)]
    summaries = [operation["summary"] for _, operation in operations(document)]

    assert [name for name in names if not re.fullmatch(r"[a-z]+([A-Z][a-z]+)*", name)] == []
    assert len(set(names)) == len(names)
    assert len(set(summaries)) == len(summaries)


def test_every_request_body_comes_with_an_example(document: Json) -> None:
    without = [
        (name, kind)
        for name, operation in operations(document)
        for kind, content in operation.get("requestBody", {}).get("content", {}).items()
        if not examples(document, content)
    ]

    assert without == []


def examples(document: Json, content: Json) -> list[Any]:
    if "example" in content:
        return [content["example"]]
    name = content["schema"].get("$ref", "").rpartition("/")[2]
    found: list[Any] = document["components"]["schemas"].get(name, {}).get("examples", [])
    return found


def test_every_operation_documents_the_errors_that_it_can_answer_with(document: Json) -> None:
    for name, operation in operations(document):
        expected = {"500"}
        if operation.get("parameters") or "requestBody" in operation:
            expected.add("422")
        if "requestBody" in operation:
            expected |= {"413", "415"}
        # A table that cannot be read, JSON or not, is a 422 malformed_table.
        if "requestBody" in operation and name != "POST /v1/datasets":
            expected.add("400")
        if "{" in name or name == "POST /v1/jobs":
            expected.add("404")

        missing = expected - set(operation["responses"])

        assert missing == set(), name


def test_every_error_is_documented_as_a_problem_and_nothing_else(document: Json) -> None:
    kinds = {
        (tuple(response["content"]), response["content"][PROBLEM]["schema"]["$ref"])
        for _, operation in operations(document)
        for status, response in operation["responses"].items()
        if status >= "400"
    }

    assert kinds == {((PROBLEM,), "#/components/schemas/Problem")}


def test_every_success_that_has_a_body_documents_its_shape(document: Json) -> None:
    bare = [
        (name, status)
        for name, operation in operations(document)
        for status, response in operation["responses"].items()
        if status < "400" and status != "204"
        if not response["content"]["application/json"]["schema"]
    ]

    assert bare == []


# On PostgreSQL, which refuses more; test_hostile.py compares the two databases.
@pytest.mark.parametrize("served", ["postgresql"], indirect=True)
@pytest.mark.parametrize("seconds", [12, pytest.param(30, marks=pytest.mark.slow)])
def test_random_requests_are_answered_as_documented(
    served: Served, tmp_path: Path, seconds: int
) -> None:
    config = tmp_path / "schemathesis.toml"
    config.write_text(
        served.filled(
            """
            [parameters]
            "path.dataset_id" = "DATASET"
            "path.job_id" = "JOB"
            "path.model_id" = "MODEL"

            [[operations]]
            include-operation-id = "deleteDataset"
            parameters = { "path.dataset_id" = "ds_none" }
            """
        )
    )
    # The whole run is a function of the document, but for the time that ends it.
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"]
    command += [f"{served.url}/openapi.json", "--checks", ",".join(CHECKS)]
    command += ["--phases", "examples,coverage,fuzzing", "--generation-deterministic"]
    command += ["--max-examples", str(EXAMPLES_MAX), "--max-time", str(seconds)]
    command += ["--no-color", "--continue-on-failure", "--warnings", "off"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    tested = re.search(r"Tested: (\d+)", done.stdout)
    assert tested is not None
    assert int(tested[1]) >= 17, done.stdout


def test_the_answers_of_a_whole_journey_are_shaped_as_documented(
    served: Served, document: Json
) -> None:
    schema = schemathesis.openapi.from_dict(document)
    seen: set[tuple[str, int]] = set()

    def sent(method: str, template: str, status: int, **request: Any) -> Json:
        ids = request.pop("ids", {})
        response = served.client.request(method, template.format(**ids), **request)
        assert response.status_code == status, response.text
        schema[template][method].validate_response(response)
        seen.add((schema[template][method].definition.raw["operationId"], status))
        streamed = response.headers.get("Content-Type", "").startswith("text/event-stream")
        answer: Json = response.json() if response.content and not streamed else {}
        return answer

    journey(sent)

    assert (
        seen
        >= {
            (operation["operationId"], int(status))
            for _, operation in operations(document)
            for status in operation["responses"]
            if status < "400"
        }
        - WHILE_IT_RUNS
    )


def journey(sent: Any) -> None:
    """Every success that a caller can bring about, and errors of most kinds."""
    table = {name: list(column) for name, column in plane(noise=0.5).items()}
    table["kind"] = ["u", "v", None] * 20
    upload: Json = {"json": {"columns": table}, "params": {"name": "é"}, "headers": key()}
    for _ in range(2):
        dataset = sent("POST", "/v1/datasets", 201, **upload)
    of_dataset = {"dataset_id": dataset["id"]}
    sent("GET", "/v1/datasets", 200)
    sent("GET", "/v1/datasets/{dataset_id}", 200, ids=of_dataset)
    sent("GET", "/v1/datasets/{dataset_id}/rows", 200, ids=of_dataset, params={"limit": 3})
    spec = {**of_dataset, "targets": ["y"], "inputs": ["a", "c"]}
    sent("POST", "/v1/jobs", 200, json=spec, params={"validate_only": True})
    sent("POST", "/v1/jobs", 422, json={**spec, "inputs": ["kind", "z"]})
    named = key()
    for _ in range(2):
        job = sent("POST", "/v1/jobs", 202, json=spec, headers=named)
    sent("POST", "/v1/jobs", 422, json={**spec, "seed": 7}, headers=named)
    sent("DELETE", "/v1/datasets/{dataset_id}", 409, ids=of_dataset)
    sent("GET", "/v1/jobs", 200, params={"state": "queued"})
    sent("GET", "/v1/jobs/{job_id}", 200, ids={"job_id": job["id"]})
    sent("GET", "/v1/jobs/{job_id}/history", 200, ids={"job_id": job["id"]})
    of_job = {"job_id": job["id"]}
    sent("POST", "/v1/jobs/{job_id}/stop", 409, ids=of_job)
    for action, status in (("pause", 200), ("resume", 202), ("cancel", 200)):
        for _ in range(2):
            sent("POST", f"/v1/jobs/{{job_id}}/{action}", status, ids=of_job)
    follow(sent, job["id"])
    sent("DELETE", "/v1/datasets/{dataset_id}", 204, ids=of_dataset)
    trained = next(j for j in sent("GET", "/v1/jobs", 200)["items"] if j["state"] == "succeeded")
    sent("GET", "/v1/jobs/{job_id}/history", 200, ids={"job_id": trained["id"]})
    sent("POST", "/v1/jobs/{job_id}/cancel", 409, ids={"job_id": trained["id"]})
    of_model = {"model_id": trained["model_id"]}
    sent("GET", "/v1/models", 200)
    sent("GET", "/v1/models/{model_id}", 200, ids=of_model)
    for space in ("raw", "scaled"):
        sent("GET", "/v1/models/{model_id}/parameters", 200, ids=of_model, params={"space": space})
    predict, invert = "/v1/models/{model_id}/predict", "/v1/models/{model_id}/invert"
    output = sent("GET", "/v1/models/{model_id}", 200, ids=of_model)["outputs"][0]["name"]
    sent("POST", predict, 422, ids=of_model, json={"x": [[]]})
    inputs = sent("GET", "/v1/models/{model_id}", 200, ids=of_model)["inputs"]
    row = {i["name"]: i["mean"] if i["kind"] == "numeric" else i["levels"][0] for i in inputs}
    sent("POST", predict, 200, ids=of_model, json={"rows": [row]})
    frozen = {name: {"frozen": True} for name in row}
    for body in (
        {},
        {"method": "gradient", "return": ["trace"]},
        {"features": frozen, "return": ["conflict"]},
        {"return": ["duals"], "k": 3},
        {"items": [{}, {"from": row, "target": {output: "maximize"}}]},
        {"frontier": {"output": output, "values": [30.0, 1e4], "bound": "min"}},
    ):
        sent("POST", invert, 200, ids=of_model, json={"target": {output: 50.0}, **body})
    sent("POST", invert, 422, ids=of_model, json={"target": {"nothing": 1.0}})
    sent("GET", "/livez", 200)
    sent("GET", "/readyz", 200)


def key() -> dict[str, str]:
    return {"Idempotency-Key": uuid4().hex}


def follow(sent: Any, job_id: str) -> None:
    """The stream of a job that has ended, since one that goes on would not end; and its feed."""
    events, ids = "/v1/jobs/{job_id}/events", {"job_id": job_id}
    sent("GET", events, 200, ids=ids)
    feed = sent("GET", events, 200, ids=ids, headers={"Accept": "application/json"})
    sent("GET", events, 204, ids=ids, headers={"Last-Event-ID": feed["next"]})
    sent("GET", events, 422, ids=ids, params={"after": "somewhere"})


def test_a_service_that_is_not_ready_says_so_as_documented(
    settings: Settings, document: Json
) -> None:
    broken = settings.model_copy(update={"database_url": "sqlite:////nowhere/backsolve.db"})

    with serving(broken) as url:
        response = httpx.get(f"{url}/readyz")

    assert response.status_code == 503
    schemathesis.openapi.from_dict(document)["/readyz"]["GET"].validate_response(response)


if __name__ == "__main__":
    SNAPSHOT.write_text(written(create_app(Settings()).openapi()))
