import time

import pytest


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were slept, none of which pass."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept
