import itertools
from collections.abc import Iterator

import pytest

from tests.object_store import ObjectStore, credentials_in_environment

numbers = itertools.count()


@pytest.fixture(scope="package")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with (
        credentials_in_environment(),
        ObjectStore(tmp_path_factory.mktemp("objects") / "log") as store,
    ):
        yield store


@pytest.fixture
def bucket() -> str:
    """A name that nobody else has taken."""
    return f"bucket-{next(numbers)}"
