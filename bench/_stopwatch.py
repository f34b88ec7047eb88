"""Interleaved timing: every repeat runs all contestants once, so that all meet the same weather."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import NamedTuple, TypeVar

CALLS_MAX = 10_000

Value = TypeVar("Value")


class Timing(NamedTuple):
    """Seconds of one run, once for each repeat; never empty."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    def per(self, count: int) -> "Timing":
        """Of one part of `count` equal parts of the run."""
        return Timing(tuple(sample / count for sample in self.samples))


class Pace(NamedTuple):
    """How often to repeat: `repeats` times at most, and no more after `seconds_each` of its own.

    A sample makes as many calls as fill `sample_seconds`, one at least.
    """

    repeats: int
    seconds_each: float
    sample_seconds: float = 0.0


def race(
    runs: Mapping[str, Callable[[], object]],
    pace: Pace,
    tell: Callable[[str], None],
    *,
    known: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, Timing]:
    """The timings of all runs. `known`: the seconds of a first run, of those that had one.

    A first run warms the caches and says how many calls make a sample; it counts as a sample only
    where there is no time for another. `tell` hears who runs next.
    """
    first = {name: known[name] if name in known else timed(runs[name])[0] for name in runs}
    calls = {
        name: min(CALLS_MAX, max(1, round(pace.sample_seconds / max(seconds, 1e-9))))
        for name, seconds in first.items()
    }
    samples: dict[str, list[float]] = {name: [] for name in runs}
    spent = dict(first)
    names = list(runs)
    with no_collection():
        for repeat in range(pace.repeats):
            # Each starts a repeat in its turn, so that none always follows the same one.
            turn = repeat % max(len(names), 1)
            for name in names[turn:] + names[:turn]:
                if spent[name] < pace.seconds_each:
                    tell(name)
                    seconds = timed(runs[name], calls[name])[0]
                    spent[name] += seconds
                    samples[name].append(seconds / calls[name])
    return {name: Timing(tuple(samples[name] or [first[name]])) for name in runs}


def timed(run: Callable[[], Value], calls: int = 1) -> tuple[float, Value]:
    """The seconds that `calls` calls took together, and what the last one gave."""
    started = time.perf_counter()
    for _ in range(calls - 1):
        run()
    value = run()
    return time.perf_counter() - started, value


@contextmanager
def no_collection() -> Iterator[None]:
    """Keeps Python's garbage collector out of the measured code."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
