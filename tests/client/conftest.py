import time
from collections.abc import Iterator

import pytest

from app.client import Backsolve
from tests.builders import Api


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were slept, none of which pass."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


@pytest.fixture
def backsolve(api: Api) -> Iterator[Backsolve]:
    with Backsolve(str(api.client.base_url)) as backsolve:
        yield backsolve
