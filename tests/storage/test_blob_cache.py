import multiprocessing
import os
import time
from pathlib import Path

import pytest

from app.storage.blob_cache import BlobCache

SIZE = 1000


@pytest.fixture
def cache(tmp_path: Path) -> BlobCache:
    """Room for three copies."""
    return BlobCache(tmp_path, bytes_max=3 * SIZE)


def fetch(path: Path) -> None:
    path.write_bytes(b"x" * SIZE)


def refuse(_: Path) -> None:
    raise AssertionError("it was fetched")


def use(cache: BlobCache, key: str) -> None:
    with cache.held(key, fetch):
        pass


def last_used(cache: BlobCache, *keys: str) -> None:
    """Makes it so that they were used in this order, a minute between each."""
    for minutes, key in enumerate(reversed(keys), 1):
        os.utime(cache.path(key), (time.time() - 60 * minutes,) * 2)


def kept(cache: BlobCache) -> set[str]:
    return {path.name for path in cache.folder.iterdir()}


def test_a_copy_is_fetched_once(cache: BlobCache) -> None:
    use(cache, "a")

    with cache.held("a", refuse) as path:
        assert path.stat().st_size == SIZE


def test_the_least_recently_used_copies_make_room(cache: BlobCache) -> None:
    for key in ("a", "b", "c"):
        use(cache, key)
    last_used(cache, "a", "b", "c")
    use(cache, "a")

    use(cache, "d")

    assert kept(cache) == {"a", "c", "d"}


def test_a_copy_in_use_is_never_dropped(cache: BlobCache) -> None:
    use(cache, "a")
    last_used(cache, "a")

    with cache.held("a", refuse) as path:
        for key in ("b", "c", "d", "e"):
            use(cache, key)
        still_there = path.exists()
    use(cache, "f")

    assert still_there
    assert len(kept(cache)) == 3


def test_a_copy_in_use_in_another_process_is_never_dropped(cache: BlobCache) -> None:
    use(cache, "a")
    last_used(cache, "a")
    context = multiprocessing.get_context("spawn")
    held, done = context.Event(), context.Event()
    other = context.Process(target=hold, args=(cache.folder, held, done))
    other.start()
    try:
        assert held.wait(30)
        last_used(cache, "a")
        for key in ("b", "c", "d"):
            use(cache, key)
        while_held = kept(cache)
    finally:
        done.set()
        other.join(30)
    use(cache, "e")

    assert "a" in while_held
    assert "a" not in kept(cache)


def hold(folder: Path, held: object, done: object) -> None:
    with BlobCache(folder, bytes_max=3 * SIZE).held("a", refuse):
        held.set()  # type: ignore[attr-defined]
        done.wait(30)  # type: ignore[attr-defined]


def test_two_that_miss_the_same_blob_both_get_it(cache: BlobCache) -> None:
    def fetch_while_another_does(path: Path) -> None:
        use(cache, "a")
        fetch(path)

    with cache.held("a", fetch_while_another_does) as path:
        assert path.stat().st_size == SIZE

    assert kept(cache) == {"a"}


def test_a_fetch_that_fails_leaves_nothing(cache: BlobCache) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"), cache.held("a", fail):
        pass

    assert kept(cache) == set()


def test_a_copy_larger_than_the_room_is_read_all_the_same(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path, bytes_max=1)

    with cache.held("a", fetch) as path:
        assert path.stat().st_size == SIZE
    use(cache, "b")

    assert kept(cache) == {"b"}
