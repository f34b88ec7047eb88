"""The error tree is part of the API."""

from collections.abc import Iterator

from app import errors
from app.api.problems import STATUSES, status_of
from app.errors import ServiceError


def leaves(kind: type[ServiceError] = ServiceError) -> Iterator[type[ServiceError]]:
    for child in kind.__subclasses__():
        if child.__subclasses__():
            yield from leaves(child)
        elif child.__module__ == errors.__name__:
            yield child


def test_every_error_has_a_code_of_its_own_and_a_status() -> None:
    codes = [kind.code for kind in leaves()]

    assert len(set(codes)) == len(codes)
    ours = {kind for kind in leaves() if issubclass(kind, errors.Busy | errors.Full)}
    assert {status_of(kind) for kind in ours} == {503, 507}
    assert all(400 <= status_of(kind) < 500 for kind in leaves() if kind not in ours)


def test_every_branch_with_a_status_is_a_branch_of_the_tree() -> None:
    assert all(issubclass(branch, ServiceError) for branch, _ in STATUSES)


def test_the_drawn_tree_names_every_error() -> None:
    drawn = errors.__doc__ or ""

    assert [kind.__name__ for kind in leaves() if kind.__name__ not in drawn] == []


def test_codes_are_those_that_clients_know() -> None:
    """Changing a code breaks clients: this list only ever grows."""
    assert {kind.code for kind in leaves()} >= {
        "body_too_large",
        "dataset_in_use",
        "dataset_not_found",
        "invalid_input",
        "invalid_request",
        "invalid_spec",
        "job_ended",
        "job_not_found",
        "malformed_json",
        "malformed_table",
        "model_not_found",
        "table_too_large",
        "unsupported_media_type",
    }
