from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import migrated_url
from tests.journeys.caller import Caller
from tests.servers import Service, running_service

# What differs on PostgreSQL has quicker tests elsewhere; test_many_machines.py runs on it anyway.
KINDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]


@pytest.fixture(scope="package", params=KINDS)
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Everything, running as a user would start it, on each kind of database; shared by tests."""
    folder = tmp_path_factory.mktemp("service")
    url = migrated_url(request, request.param, folder)
    with running_service(folder, BACKSOLVE_DATABASE_URL=url) as service:
        yield service


@pytest.fixture
def caller(service: Service) -> Iterator[Caller]:
    with Caller(service.url) as caller:
        yield caller


@pytest.fixture
def own_service(url: str, tmp_path: Path) -> Iterator[Service]:
    """A service that a test may stop and kill."""
    with running_service(tmp_path, BACKSOLVE_DATABASE_URL=url) as service:
        yield service


@pytest.fixture
def own_caller(own_service: Service) -> Iterator[Caller]:
    with Caller(own_service.url) as caller:
        yield caller
