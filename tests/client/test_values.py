"""Values go out as JSON and come back as numpy, also those that JSON has no word for."""

import json
from typing import Any, get_type_hints

import httpx
import numpy as np
import pytest

from app.client import Backsolve
from app.client.backsolve import InvertOptions
from app.client.transport import json_of
from app.inference.inversion_schemas import InvertIn
from tests.client.stubs import JOB, Stub, client, ok, problem


def sent(stub: Stub) -> Any:
    return json.loads(stub.requests[-1].content)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.array([[1.5, 2.0]]), "[[1.5, 2.0]]"),
        ({"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True)}, None),
        ([1.0, float("nan"), None], "[1.0, null, null]"),
        (np.array([np.nan, 1.0]), "[null, 1.0]"),
        ([{"a": (1, np.array([np.nan]))}], '[{"a": [1, [null]]}]'),
        (range(3), "[0, 1, 2]"),
        (np.array(["x", "y"]), '["x", "y"]'),
    ],
)
def test_what_numpy_holds_is_sent_as_json(value: Any, text: str | None) -> None:
    expected = '{"a": 0.5, "b": 3, "c": true}' if text is None else text

    assert json_of(value) == expected.encode()


@pytest.mark.parametrize("value", [[float("inf")], np.array([[-np.inf, np.nan]])])
def test_an_infinity_is_refused_before_it_is_sent(value: Any) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_of({"x": value})


def test_a_value_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="object cannot be sent"):
        json_of({"x": object()})


def test_only_what_was_given_is_asked_for() -> None:
    stub = Stub(problem(404))

    with client(stub) as backsolve:
        for ask in (
            lambda: backsolve.invert("mdl_1", {"y": 1}),
            lambda: backsolve.invert("mdl_1", {"y": 1}, start={"a": 2}, returned=["trace"]),
            lambda: backsolve.invert_many("mdl_1", [{"start": {"a": 2}}, {}], target={"y": 1}, k=2),
            lambda: backsolve.frontier("mdl_1", "y", np.array([1.0, 2.0]), bound="min"),
            lambda: backsolve.train("ds_1", "strength", seed=3),
        ):
            with pytest.raises(Exception, match="It is so"):
                ask()

    bodies = [json.loads(request.content) for request in stub.requests]
    assert bodies == [
        {"target": {"y": 1}},
        {"target": {"y": 1}, "from": {"a": 2}, "return": ["trace"]},
        {"target": {"y": 1}, "items": [{"from": {"a": 2}}, {}], "k": 2},
        {"frontier": {"output": "y", "values": [1.0, 2.0], "bound": "min"}},
        {"dataset_id": "ds_1", "targets": ["strength"], "seed": 3},
    ]


def test_every_option_of_invert_is_one_of_the_client() -> None:
    of_the_service = set(InvertIn.model_fields) - {"start", "target", "items", "frontier"}

    assert set(get_type_hints(InvertOptions)) == of_the_service


def test_pages_are_fetched_as_they_are_needed() -> None:
    def page(ids: list[str], cursor: str | None) -> httpx.Response:
        return ok({"items": [{**JOB, "id": name} for name in ids], "next_cursor": cursor})

    stub = Stub(page(["j1", "j2"], "j2"), page(["j3"], None))

    with client(stub) as backsolve:
        walk = backsolve.jobs(state="queued")
        nothing_yet = len(stub.requests)
        first_two = [next(walk).id, next(walk).id]
        one_page = len(stub.requests)
        rest = [job.id for job in walk]

    assert (nothing_yet, one_page, len(stub.requests)) == (0, 1, 2)
    assert first_two + rest == ["j1", "j2", "j3"]
    assert stub.paths[1] == "/v1/jobs?limit=100&cursor=j2&state=queued"


def test_an_address_may_have_a_path_of_its_own() -> None:
    stub = Stub(problem(404))

    with (
        Backsolve("http://proxy/backsolve/", transport=httpx.MockTransport(stub)) as backsolve,
        pytest.raises(Exception, match="It is so"),
    ):
        backsolve.job("job_1")

    assert stub.paths == ["/backsolve/v1/jobs/job_1"]
