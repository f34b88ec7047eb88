"""What every error answer must look like."""

import re

import httpx

from tests.builders import Json

PROBLEM_BYTES_MAX = 8192
FIELDS = {"type", "title", "status", "detail", "code", "request_id", "errors"}


def problem_of(response: httpx.Response) -> Json:
    """The problem that an error was answered with, once it is seen to be a sound one."""
    assert 400 <= response.status_code < 600, response.text[:500]
    assert response.headers["content-type"] == "application/problem+json", response.text[:500]
    assert len(response.content) < PROBLEM_BYTES_MAX, response.text[:500]
    problem: Json = response.json()
    assert set(problem) == FIELDS
    assert problem["status"] == response.status_code
    assert problem["type"] == f"urn:backsolve:problem:{problem['code']}"
    assert re.fullmatch(r"[a-z0-9_]+", problem["code"])
    assert problem["title"]
    assert problem["detail"]
    assert problem["request_id"] == response.headers["x-request-id"]
    assert len(problem["errors"]) <= 100
    for fault in problem["errors"]:
        assert set(fault) <= {"detail", "pointer", "row", "column"}
        assert fault["detail"]
        assert re.fullmatch(r"(?s)(/.*)?", fault.get("pointer", ""))
    return problem
