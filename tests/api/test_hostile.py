"""Nothing that a caller can send is answered with a 5xx, on either database."""

import socket
import unicodedata
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from tests.api import hostile
from tests.api.conftest import Served
from tests.api.hostile import CSV, HOLE, JSON, Place
from tests.api.problems import problem_of
from tests.builders import Json

ROUTES = ("/v1/jobs", "/v1/datasets", "/v1/models/MODEL/predict", "/v1/models/MODEL/invert")


def post(served: Served, place: Place, **headers: str) -> httpx.Response:
    body = place.body.replace(b"DATASET", served.dataset_id.encode())
    return served.client.post(
        served.filled(place.path),
        content=body,
        headers={"content-type": place.media_type, **headers},
    )


def assert_refused(served: Served, response: httpx.Response) -> Json:
    assert response.status_code < 500, response.text[:500]
    problem = problem_of(response)
    assert served.client.get("/readyz").status_code == 200
    return problem


def assert_refused_or_served(served: Served, response: httpx.Response) -> None:
    if response.is_success:
        # Strict: the default reader takes NaN for a number, which JSON has no word for.
        response.json(parse_constant=pytest.fail)
    else:
        assert_refused(served, response)


def cases(places: dict[str, Place], fillings: dict[str, bytes]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "place",
        [
            pytest.param(
                place._replace(body=place.body.replace(HOLE, filling)),
                id=f"{what}: {why}",
            )
            for what, place in places.items()
            for why, filling in fillings.items()
        ],
    )


@cases(hostile.NUMBER_PLACES, hostile.NOT_NUMBERS)
def test_what_is_no_json_number_is_refused(served: Served, place: Place) -> None:
    response = post(served, place)

    assert assert_refused(served, response)["status"] in (400, 422)


@cases(hostile.NUMBER_PLACES, hostile.ODD_NUMBERS)
def test_an_odd_number_is_refused_or_understood(served: Served, place: Place) -> None:
    response = post(served, place)

    assert_refused_or_served(served, response)
    if response.status_code == 201:
        dataset_id = response.json()["id"]
        assert_refused_or_served(served, served.client.get(f"/v1/datasets/{dataset_id}"))
        assert_refused_or_served(served, served.client.get(f"/v1/datasets/{dataset_id}/rows"))


@cases(hostile.TEXT_PLACES, hostile.HOSTILE_TEXTS)
def test_a_hostile_text_is_refused(served: Served, place: Place) -> None:
    response = post(served, place)

    assert assert_refused(served, response)["status"] in (400, 422)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", hostile.DOCUMENTS)
def test_a_hostile_document_is_refused(served: Served, route: str, name: str) -> None:
    response = post(served, Place(route, hostile.DOCUMENTS[name]))

    assert assert_refused(served, response)["status"] in (400, 413, 422)


@pytest.mark.parametrize("name", hostile.CSV_BODIES)
def test_a_hostile_csv_is_refused(served: Served, name: str) -> None:
    response = post(served, Place("/v1/datasets", hostile.CSV_BODIES[name], CSV))

    assert assert_refused(served, response)["status"] in (413, 422)


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/json; charset=utf-16"},
        {"content-type": 'application/json; charset="'},
        {"content-type": "application/json;" + "a" * 5000},
        {"content-type": "a" * 10_000},
        {"content-type": "text/csv; header=absent"},
        {"content-type": "/"},
        {"content-type": "application/json, text/csv"},
        {"content-encoding": "gzip"},
        {"content-encoding": "a" * 10_000},
        {"accept": "a" * 10_000},
        {"x-request-id": "a" * 10_000},
        {"idempotency-key": "a" * 10_000},
        {"cookie": "a=" + "b" * 10_000},
        {"host": "elsewhere.example"},
        {"x-forwarded-for": "'; DROP TABLE jobs"},
    ],
    ids=lambda headers: str(headers)[:60],
)
@pytest.mark.parametrize("route", ROUTES)
def test_a_hostile_header_is_refused_or_ignored(
    served: Served, route: str, headers: dict[str, str]
) -> None:
    response = post(served, Place(route, b"{}"), **headers)

    assert_refused(served, response)


@pytest.mark.parametrize("name", hostile.IDS)
@pytest.mark.parametrize(("method", "path"), hostile.ID_PATHS)
def test_a_hostile_id_is_refused(served: Served, method: str, path: str, name: str) -> None:
    target = served.filled(path.format(hostile.IDS[name]))

    # Not by the client, which would take the dots out.
    head, body = raw(
        served,
        f"{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
    )

    status, headers = head_of(head)
    problem = assert_refused(served, httpx.Response(status, headers=headers, content=body))
    assert problem["status"] in (404, 405, 422)


@pytest.mark.parametrize("name", hostile.NUMBERS_IN_QUERIES)
@pytest.mark.parametrize("query", hostile.QUERIES_OF_NUMBERS)
def test_a_hostile_number_in_a_query_is_refused(served: Served, query: str, name: str) -> None:
    response = served.client.get(served.filled(query) + hostile.NUMBERS_IN_QUERIES[name])

    assert assert_refused(served, response)["status"] == 422


@pytest.mark.parametrize("name", hostile.TEXTS_IN_QUERIES)
@pytest.mark.parametrize("query", hostile.QUERIES_OF_TEXTS)
def test_a_hostile_text_in_a_query_is_refused(served: Served, query: str, name: str) -> None:
    response = served.client.get(served.filled(query) + hostile.TEXTS_IN_QUERIES[name])

    assert assert_refused(served, response)["status"] == 422


@pytest.mark.parametrize("name", hostile.TEXTS_IN_QUERIES)
def test_a_hostile_dataset_name_is_refused(served: Served, name: str) -> None:
    place = Place(f"/v1/datasets?name={hostile.TEXTS_IN_QUERIES[name]}", b"a\n1\n", CSV)

    response = post(served, place)

    assert assert_refused(served, response)["status"] == 422


@pytest.mark.parametrize("value", ["a\x01b", "a\x00b", "a\x7fb", "a\x1b[2J", "a\x80b"])
def test_a_control_character_in_a_header_never_comes_back(served: Served, value: str) -> None:
    request = (
        f"GET /nowhere HTTP/1.1\r\nHost: a\r\nX-Request-ID: {value}\r\nConnection: close\r\n\r\n"
    )

    head, body = raw(served, request)

    assert head.split()[1] in (b"400", b"404"), head
    assert value.encode("latin-1") not in head + body
    assert served.client.get("/readyz").status_code == 200


def head_of(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("ascii").split("\r\n")
    pairs = (line.partition(": ") for line in lines)
    return int(first.split()[1]), {name: value for name, _, value in pairs}


def raw(served: Served, request: str) -> tuple[bytes, bytes]:
    """Head and body of the answer to exactly these bytes."""
    address = urlsplit(served.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=10) as line:
        line.sendall(request.encode("latin-1"))
        answer = b"".join(iter(lambda: line.recv(65_536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


@pytest.mark.parametrize("media_type", [JSON, CSV])
def test_a_caller_who_hangs_up_in_the_middle_leaves_no_error_behind(
    served: Served, media_type: str, caplog: pytest.LogCaptureFixture
) -> None:
    address = urlsplit(served.url)
    head = f"POST /v1/datasets HTTP/1.1\r\nHost: a\r\nContent-Type: {media_type}\r\n"

    for _ in range(5):
        with socket.create_connection((address.hostname or "", address.port or 0)) as line:
            line.sendall(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
    health = [served.client.get("/readyz").status_code for _ in range(5)]

    assert health == [200] * 5
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


NAMES = [
    "naïve Café №5",
    "e\u0301",  # NFC makes one character of the two
    "שלום עולם",
    "\U0001f600" * 200,
    "\uffff\ufdd0",
    "a\u200db",
    "'; DROP TABLE datasets; --",
    "%s %(name)s {name} ${name} \\u0000 \\x00",
    '"quoted" <b>&amp;</b>',
    "../../etc/passwd",
    "=1+1",
]


def shapes(served: Served, name: str) -> Iterator[tuple[str, str]]:
    """The name, stored in every place that keeps one, and as each place gives it back."""
    numbers = [1.0, 2.0, 4.0, 8.0, 9.0]
    columns: Json = {name: numbers, "y": numbers, "level": [name, "b", name, "b", name]}
    created = served.client.post("/v1/datasets", json={"columns": columns}, params={"name": name})
    assert created.status_code == 201, created.text[:500]
    dataset_id = created.json()["id"]
    dataset = served.api.get(f"/v1/datasets/{dataset_id}")
    yield "dataset", dataset["name"]
    yield "column", dataset["columns"][0]["name"]
    yield "level", max(dataset["columns"][2]["levels"], key=lambda level: level["count"])["value"]
    rows = served.api.get(f"/v1/datasets/{dataset_id}/rows")["items"]
    yield "cell", rows[0]["level"]
    job = served.api.train(dataset_id, ["y"], name=name)
    yield "job", job["name"]
    yield "input of the job", job["spec"]["inputs"][0]
    model = served.api.get(f"/v1/models/{job['model_id']}")
    yield "model", model["name"]
    yield "input of the model", model["inputs"][0]["name"]
    listed = served.api.get("/v1/models", limit=1)["items"][0]
    yield "listed model", listed["name"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_that_is_stored_comes_back_equal(served: Served, name: str) -> None:
    expected = unicodedata.normalize("NFC", name)

    stored = dict(shapes(served, name))

    # A level is data, not a name: it stays as it was sent.
    assert stored.pop("level") == stored.pop("cell") == name
    assert stored == dict.fromkeys(stored, expected)


@pytest.mark.parametrize(
    "number",
    [0.1, 1 / 3, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, -0.0, 2.0**53, 1e22],
)
def test_a_number_that_is_stored_comes_back_to_the_last_bit(served: Served, number: float) -> None:
    created = served.client.post("/v1/datasets", json={"columns": {"a": [number, 1.0]}})

    dataset_id = created.json()["id"]
    items = served.api.get(f"/v1/datasets/{dataset_id}/rows")["items"]
    column = served.api.get(f"/v1/datasets/{dataset_id}")["columns"][0]
    assert items[0]["a"].hex() == number.hex()
    assert number in (column["minimum"], column["maximum"])
