from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from app.settings import Settings
from tests.conftest import migrated_url
from tests.toxic import Proxy, proxy

CALL_SECONDS = 0.5


def in_time(seconds: Sequence[float], bound: float) -> bool:
    """Whether all were, but for one in twenty that a busy machine may have kept from running."""
    ordered = sorted(seconds)
    return ordered[-1 - len(ordered) // 20] < bound and ordered[-1] < 5 * bound


@pytest.fixture
def direct_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database on PostgreSQL, with nothing in between."""
    return migrated_url(request, "postgresql", tmp_path)


@pytest.fixture
def between(direct_url: str) -> Iterator[Proxy]:
    """The proxy that the settings lead through."""
    folder = make_url(direct_url).query["host"]
    with proxy(f"{folder}/.s.PGSQL.5432") as running:
        yield running


@pytest.fixture
def through(direct_url: str, between: Proxy, tmp_path: Path) -> Settings:
    """Settings whose database is behind the proxy, and whose patience is short."""
    url = make_url(direct_url).set(host="127.0.0.1", port=between.port, query={})
    return Settings(
        database_url=url.render_as_string(hide_password=False),
        data_dir=tmp_path,
        heartbeat_seconds=0.05,
        database_seconds=CALL_SECONDS,
    )
