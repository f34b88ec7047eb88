"""Every error is a problem document that says what happened, and no more than that."""

import json
import logging
from collections.abc import Iterator

import httpx
import pytest

from app.settings import Settings
from tests.api.conftest import Served
from tests.api.problems import problem_of
from tests.builders import Api
from tests.servers import serving

ABSENT = "mdl_000000000000000000000000"
JSON = {"content-type": "application/json"}
CSV = {"content-type": "text/csv"}

UNKNOWN: list[tuple[str, str, str]] = [
    ("GET", "/nowhere", "not_found"),
    ("GET", "/v1", "not_found"),
    ("GET", "/v1/datasets/", "not_found"),
    ("GET", f"/v1/datasets/{ABSENT}", "dataset_not_found"),
    ("GET", f"/v1/datasets/{ABSENT}/rows", "dataset_not_found"),
    ("DELETE", f"/v1/datasets/{ABSENT}", "dataset_not_found"),
    ("GET", f"/v1/jobs/{ABSENT}", "job_not_found"),
    ("GET", f"/v1/jobs/{ABSENT}/history", "job_not_found"),
    ("POST", f"/v1/jobs/{ABSENT}/cancel", "job_not_found"),
    ("GET", f"/v1/models/{ABSENT}", "model_not_found"),
    ("GET", f"/v1/models/{ABSENT}/parameters", "model_not_found"),
    ("POST", f"/v1/models/{ABSENT}/predict", "model_not_found"),
]


@pytest.mark.parametrize(("method", "path", "code"), UNKNOWN)
def test_what_does_not_exist_is_a_404_with_a_code_for_its_kind(
    served: Served, method: str, path: str, code: str
) -> None:
    response = served.client.request(method, path)

    problem = problem_of(response)
    assert (response.status_code, problem["code"]) == (404, code)
    assert (ABSENT in problem["detail"]) == (ABSENT in path)


def test_a_job_or_an_inversion_that_names_nothing_known_is_a_404(served: Served) -> None:
    job = served.client.post("/v1/jobs", json={"dataset_id": ABSENT, "targets": ["y"]})
    inversion = served.client.post(f"/v1/models/{ABSENT}/invert", json={"target": {"y": 1}})

    assert (job.status_code, problem_of(job)["code"]) == (404, "dataset_not_found")
    assert (inversion.status_code, problem_of(inversion)["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/datasets", {"GET", "POST"}),
        ("HEAD", "/v1/jobs", {"GET", "POST"}),
        ("PATCH", "/v1/datasets/DATASET", {"GET", "DELETE"}),
        ("DELETE", "/v1/jobs/JOB", {"GET"}),
        ("GET", "/v1/jobs/JOB/cancel", {"POST"}),
        ("GET", "/v1/models/MODEL/predict", {"POST"}),
        ("OPTIONS", "/livez", {"GET"}),
    ],
)
def test_a_method_that_a_path_does_not_take_is_a_405_that_lists_all_it_takes(
    served: Served, method: str, path: str, allowed: set[str]
) -> None:
    response = served.client.request(method, served.filled(path))

    assert response.status_code == 405
    assert set(response.headers["allow"].split(", ")) == allowed
    if method != "HEAD":
        assert problem_of(response)["code"] == "method_not_allowed"


def test_a_path_with_one_slash_too_many_is_not_redirected(served: Served) -> None:
    response = served.client.get("/v1/datasets/", headers={"host": "elsewhere.example"})

    assert (response.status_code, "location" in response.headers) == (404, False)


@pytest.fixture
def narrow(settings: Settings) -> Iterator[httpx.Client]:
    """A service that takes 200 bytes of JSON and 2,000 bytes of a table."""
    limits = {"json_bytes_max": 200, "upload_bytes_max": 2000}
    with (
        serving(settings.model_copy(update=limits)) as url,
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("path", "headers", "bytes_max"),
    [
        ("/v1/jobs", JSON, 200),
        ("/v1/datasets", CSV, 2000),
        ("/v1/datasets", JSON, 2000),
    ],
)
def test_a_body_over_the_limit_of_its_route_is_a_413_however_it_is_sent(
    narrow: httpx.Client, path: str, headers: dict[str, str], bytes_max: int
) -> None:
    body = b'{"x":"' + b"a" * bytes_max + b'"}'

    declared = narrow.post(path, content=body, headers=headers)
    chunked = narrow.post(path, content=iter([body[:9], body[9:]]), headers=headers)
    just_fits = narrow.post(path, content=b"{".ljust(bytes_max), headers=headers)

    assert "content-length" not in chunked.request.headers
    for response in (declared, chunked):
        problem = problem_of(response)
        assert (response.status_code, problem["code"]) == (413, "body_too_large")
        assert f"{bytes_max:,} bytes" in problem["detail"]
    assert just_fits.status_code in (400, 422)


def test_a_document_of_too_many_values_is_refused_before_each_of_them_is_judged(
    served: Served,
) -> None:
    body = {"dataset_id": "ds_1", "targets": ["y"], "inputs": [1] * 100_000}

    response = served.client.post("/v1/jobs", json=body)

    assert (response.status_code, problem_of(response)["code"]) == (413, "body_too_large")


BODY_ROUTES = ["/v1/jobs", "/v1/datasets", "/v1/models/MODEL/predict", "/v1/models/MODEL/invert"]
WRONG_KINDS: list[dict[str, str]] = [
    {},
    {"content-type": ""},
    {"content-type": "text/plain"},
    {"content-type": "application/x-www-form-urlencoded"},
    {"content-type": "multipart/form-data; boundary=x"},
    {"content-type": "application/jsonp"},
    {"content-type": "application/json", "content-encoding": "gzip"},
    {"content-type": "application/json", "content-encoding": "identity, br"},
]


@pytest.mark.parametrize("headers", WRONG_KINDS, ids=str)
@pytest.mark.parametrize("path", BODY_ROUTES)
def test_a_body_of_another_kind_is_a_415(
    served: Served, path: str, headers: dict[str, str]
) -> None:
    response = served.client.post(served.filled(path), content=b"{}", headers=headers)

    assert (response.status_code, problem_of(response)["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"", "Line 1, column 1:"),
        (b'{"x": [[1, 2]', "Line 1, column 14:"),
        (b'{\n  "x": [[1, 2]],\n  "y" 3\n}', "Line 3, column 7:"),
        (b'{"x":\n [[1, NaN]]}', "Line 2, column 7:"),
        (b'{\n"\xe2\x82\xac \xff": 1}', "Line 2, column 6:"),
    ],
)
@pytest.mark.parametrize("path", [path for path in BODY_ROUTES if "datasets" not in path])
def test_json_that_cannot_be_read_is_a_400_with_its_place(
    served: Served, path: str, body: bytes, place: str
) -> None:
    response = served.client.post(served.filled(path), content=body, headers=JSON)

    problem = problem_of(response)
    assert (response.status_code, problem["code"]) == (400, "malformed_json")
    assert problem["detail"].startswith(place)


@pytest.mark.parametrize(
    ("path", "body", "key"),
    [
        ("/v1/jobs", '{"dataset_id": "d", "targets": ["y"], "dataset_id": "e"}', "dataset_id"),
        ("/v1/jobs", '{"solver": {"epochs": 1, "epochs": 2}}', "epochs"),
        ("/v1/models/MODEL/invert", '{"target": {"y": 1, "y": 2}}', "y"),
        ("/v1/models/MODEL/predict", '{"rows": [{"kind": "u", "a": 1, "a": 2}]}', "a"),
        ("/v1/models/MODEL/predict", '{"x": [["u", 1]], "x": [["v", 2]]}', "x"),
    ],
)
def test_a_repeated_key_is_refused_and_not_settled_by_the_last(
    served: Served, path: str, body: str, key: str
) -> None:
    response = served.client.post(served.filled(path), content=body, headers=JSON)

    problem = problem_of(response)
    assert (response.status_code, problem["code"]) == (400, "malformed_json")
    assert problem["detail"].startswith(f"The key {key!r} is repeated")


POINTED: list[tuple[str, object, str]] = [
    ("/v1/jobs", {"targets": ["y"]}, "/dataset_id"),
    ("/v1/jobs", {"dataset_id": "d", "targets": ["y", 3]}, "/targets/1"),
    ("/v1/jobs", {"dataset_id": "d", "targets": ["y"], "a/b~c": 3}, "/a~1b~0c"),
    ("/v1/jobs", {"dataset_id": "d", "targets": ["y"], "solver": {"epochs": 0}}, "/solver/epochs"),
    ("/v1/jobs", [], ""),
    ("/v1/jobs", {"dataset_id": "DATASET", "targets": ["y", "z"]}, "/targets/1"),
    ("/v1/models/MODEL/invert", {}, "/target"),
    ("/v1/models/MODEL/invert", {"target": {"y": "1"}}, "/target/y"),
    ("/v1/models/MODEL/invert", {"target": {"y": 1}, "features": {"b": {}}}, "/features/b"),
    ("/v1/models/MODEL/invert", {"target": {"y": 1}, "from": {"kind": "w"}}, "/from/kind"),
    ("/v1/models/MODEL/predict", {}, ""),
    ("/v1/models/MODEL/predict", {"rows": 3}, "/rows"),
    ("/v1/models/MODEL/predict", {"rows": [{"kind": "u", "a": 1}, {"kind": "u"}]}, "/rows/1"),
    ("/v1/models/MODEL/predict", {"rows": [{"kind": "u", "a": [1]}]}, "/rows/0"),
    ("/v1/models/MODEL/predict", {"rows": [{"kind": "u", "a": 1, "/": 1}]}, "/rows/0/~1"),
    ("/v1/models/MODEL/predict", {"x": [["u", 1], ["u", [1]]]}, "/x/1/1"),
    ("/v1/datasets", {"rows": [{"a": 1}, {"a": [1]}]}, "/rows/1/a"),
]


@pytest.mark.parametrize(("path", "body", "pointer"), POINTED)
def test_a_422_points_at_the_mistake_in_the_body(
    served: Served, path: str, body: object, pointer: str
) -> None:
    content = served.filled(json.dumps(body))

    response = served.client.post(served.filled(path), content=content, headers=JSON)

    problem = problem_of(response)
    assert response.status_code == 422
    assert pointer in [fault.get("pointer") for fault in problem["errors"]], problem


def test_a_422_for_a_parameter_names_it(served: Served) -> None:
    response = served.client.get("/v1/jobs", params={"limit": 0, "state": "asleep"})

    details = [fault["detail"] for fault in problem_of(response)["errors"]]
    assert response.status_code == 422
    assert [detail.partition(":")[0] for detail in details] == [
        "query parameter limit",
        "query parameter state",
    ]


SECRET = "sk_live_0123456789"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/jobs", {"dataset_id": "d", "targets": ["y"], "api_key": SECRET}),
        ("/v1/jobs", {"dataset_id": "d", "targets": SECRET}),
        ("/v1/models/MODEL/invert", {"target": {"y": SECRET}}),
        ("/v1/models/MODEL/predict", {"rows": [{"kind": "u", "a": SECRET}]}),
        ("/v1/models/MODEL/predict", {"rows": [{"kind": SECRET, "a": 1}]}),
        ("/v1/models/MODEL/predict", {"api_key": SECRET}),
    ],
)
def test_a_refused_value_is_not_repeated(served: Served, path: str, body: object) -> None:
    response = served.client.post(served.filled(path), json=body)

    assert problem_of(response)["status"] == 422
    assert SECRET not in response.text


@pytest.mark.parametrize("given", ["abc-DEF_123", "0", "f" * 64])
def test_a_sane_request_id_is_kept(served: Served, given: str) -> None:
    answers = [
        served.client.get(path, headers={"x-request-id": given}) for path in ("/livez", "/nowhere")
    ]

    assert [answer.headers["x-request-id"] for answer in answers] == [given, given]
    assert answers[1].json()["request_id"] == given


@pytest.mark.parametrize(
    "given", ["", "a b", "f" * 65, "a\tb", "é", '"; drop', "<script>", "a,b", "../a"]
)
def test_a_hostile_request_id_is_replaced(served: Served, given: str) -> None:
    response = served.client.get("/nowhere", headers=[(b"x-request-id", given.encode())])

    request_id = problem_of(response)["request_id"]
    assert len(request_id) == 32
    assert request_id.isalnum()


def test_a_bug_is_a_500_with_an_id_that_the_log_holds_once(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the secret of /etc/shadow in SELECT * FROM datasets")

    monkeypatch.setattr("app.datasets.service.newest", broken)

    with caplog.at_level(logging.DEBUG):
        response = api.client.get("/v1/datasets")

    problem = problem_of(response)
    assert (response.status_code, problem["code"]) == (500, "internal_error")
    for word in ("Traceback", "RuntimeError", "secret", "SELECT", ".py"):
        assert word not in response.text
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [getattr(record, "request_id", None) for record in errors] == [problem["request_id"]]
    assert errors[0].exc_info is not None
    assert api.client.get("/livez").status_code == 200
