"""Every answer but a 2xx is an exception that says what to do."""

import copy
import pickle

import httpx
import pytest

from app import client as backsolve_client
from app.client import (
    APIError,
    Backsolve,
    BacksolveError,
    BadRequest,
    Conflict,
    Fault,
    Invalid,
    JobFailed,
    NotFound,
    ServerError,
    TimedOut,
    TooLarge,
    Unavailable,
    UnexpectedAnswer,
    UnsupportedMediaType,
    WaitTimeout,
)
from tests.client.stubs import MODEL, Stub, client, ok, problem


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequest),
        (404, NotFound),
        (409, Conflict),
        (413, TooLarge),
        (415, UnsupportedMediaType),
        (422, Invalid),
        (500, ServerError),
        (405, APIError),
        (307, APIError),
    ],
)
def test_a_status_has_its_exception(status: int, kind: type[APIError]) -> None:
    with client(Stub(problem(status, "its_code"))) as backsolve, pytest.raises(APIError) as caught:
        backsolve.model("mdl_1")

    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.code) == (status, "its_code")
    assert (caught.value.detail, caught.value.request_id) == ("It is so.", "r1")


def test_an_error_lists_where_the_mistakes_are() -> None:
    faults = [{"detail": f"Mistake {k}.", "pointer": f"/x/{k}", "row": k} for k in range(7)]

    with client(Stub(problem(422, errors=faults))) as backsolve, pytest.raises(Invalid) as caught:
        backsolve.predict("mdl_1", x=[[1]])

    assert caught.value.errors[2] == Fault("Mistake 2.", "/x/2", row=2, column=None)
    assert "/x/4: Mistake 4." in str(caught.value)
    assert str(caught.value).endswith("and 2 more, see .errors")


def test_one_mistake_is_told_once() -> None:
    answer = problem(422, errors=[{"detail": "It is so."}])

    with client(Stub(answer)) as backsolve, pytest.raises(Invalid) as caught:
        backsolve.predict("mdl_1", x=[[1]])

    assert str(caught.value) == "It is so. (a_code, HTTP 422, request r1)"


@pytest.mark.parametrize("body", [b"<html>no</html>", b"[1]", b"", b'{"errors": 3}'])
def test_an_error_that_something_else_wrote_is_still_an_api_error(body: bytes) -> None:
    answer = httpx.Response(418, content=body, headers={"X-Request-ID": "r2"})

    with client(Stub(answer)) as backsolve, pytest.raises(APIError) as caught:
        backsolve.model("mdl_1")

    assert caught.value.code == "http_418"
    assert caught.value.request_id == "r2"


@pytest.mark.parametrize("body", [b"<html>welcome</html>", b"[]", b'{"id": "mdl_1"}', b"null"])
def test_a_2xx_that_is_not_the_services_is_an_unexpected_answer(body: bytes) -> None:
    answer = httpx.Response(200, content=body)

    with client(Stub(answer)) as backsolve, pytest.raises(UnexpectedAnswer, match="models/mdl_1"):
        backsolve.model("mdl_1")


def test_fields_that_the_client_does_not_know_are_left() -> None:
    answer = {**MODEL, "mood": "good", "inputs": [{**MODEL["inputs"][0], "unit": "days"}]}

    with client(Stub(ok(answer))) as backsolve:
        model = backsolve.model("mdl_1")

    assert model.inputs["age"].maximum == 3.0
    assert not hasattr(model, "mood")


@pytest.mark.usefixtures("pauses")
def test_nobody_at_the_address_is_unavailable() -> None:
    with Backsolve("http://127.0.0.1:1") as backsolve:
        with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:1 cannot be reached"):
            backsolve.model("mdl_1")
        assert not backsolve.is_ready()


def test_a_missing_answer_says_that_it_may_still_be_done() -> None:
    with (
        client(Stub(httpx.ReadTimeout("slow"))) as backsolve,
        pytest.raises(TimedOut, match="POST /v1/jobs"),
    ):
        backsolve.train("ds_1", "strength")


@pytest.mark.parametrize(
    "error",
    [
        Invalid(422, "a_code", "It is so.", "r1", (Fault("here", "/x"),)),
        TimedOut("late", 3.0),
        JobFailed("job_1", "diverged", "Lower it."),
        WaitTimeout("job_1", "running", 2.0),
    ],
)
def test_errors_cross_processes(error: BacksolveError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 - our own
        assert type(again) is type(error)
        assert (str(again), vars(again)) == (str(error), vars(error))


def test_the_tree_drawn_in_the_docstring_is_the_tree() -> None:
    def drawn(kind: type[BaseException], depth: int = 0) -> list[tuple[int, str]]:
        children = [line for child in kind.__subclasses__() for line in drawn(child, depth + 1)]
        return [(depth, kind.__name__), *children]

    text = backsolve_client.errors.__doc__ or ""
    lines = [line for line in text.splitlines() if line.startswith("    ")]
    tree = [((len(line) - len(line.lstrip()) - 4) // 2, line.split()[0]) for line in lines]
    assert tree == drawn(BacksolveError)


@pytest.mark.parametrize("address", ["127.0.0.1:8000", "", "ftp://service"])
def test_an_address_without_http_is_refused_at_once(address: str) -> None:
    with pytest.raises(ValueError, match="must begin with http"):
        Backsolve(address)


def test_an_id_cannot_leave_its_place_in_the_path() -> None:
    stub = Stub(problem(404))

    with client(stub) as backsolve:
        for model_id in ("../datasets/ds_1", "a?b#c", "a b"):
            with pytest.raises(NotFound):
                backsolve.model(model_id)
        with pytest.raises(ValueError, match="empty"):
            backsolve.model("")

    assert stub.paths == [
        "/v1/models/..%2Fdatasets%2Fds_1",
        "/v1/models/a%3Fb%23c",
        "/v1/models/a%20b",
    ]
