"""What a contestant is: something that lowers a cost to a target, as quick as it can.

A contestant holds its data in the layout that it likes best before its clock starts.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple

from bench._tables import Array


class Fit(NamedTuple):
    """Where a run ended: P (m, n + 1), None if it was cut short without giving any.

    `passes` counts what the library counts: evaluations of the cost, iterations, or epochs.
    """

    parameters: Array | None
    passes: int


class Limits(NamedTuple):
    """When a run may stop: at that cost, or after that many seconds."""

    target: float
    seconds_max: float

    def clock(self) -> "Clock":
        return Clock(self.target, time.perf_counter() + self.seconds_max)


class Clock(NamedTuple):
    """Limits of a run that has begun."""

    target: float
    ends_at: float

    def look(self, cost: float) -> None:
        """Raises Ended if the cost is low enough or the time is over."""
        if cost <= self.target or time.perf_counter() > self.ends_at:
            raise Ended


class Ended(Exception):
    """Leaves a peer's loop from inside the function that it calls."""


class Setting(NamedTuple):
    """One way to call a contestant, such as a tolerance or a rate."""

    text: str
    fit: Callable[[Limits], Fit]


class Contestant(NamedTuple):
    """A solver of a library, with the settings to try before the race.

    The first setting that reaches the target is taken; with `quickest`, all are tried and the one
    that reaches it soonest is.
    """

    name: str
    library: str
    settings: tuple[Setting, ...]
    quickest: bool = False


@contextmanager
def ended_after(seconds: float) -> Iterator[None]:
    """Raises Ended inside the block after some seconds, between two instructions of Python.

    Does nothing where there is no such timer (Windows).
    """
    if not hasattr(signal, "setitimer"):
        yield
        return

    def end(_: int, __: FrameType | None) -> None:
        raise Ended

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
