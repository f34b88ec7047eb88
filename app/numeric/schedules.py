"""How the learning rate goes on: one row of a table each.

A row gives what the first rate is multiplied by, from the schedule, the epochs done since warm-up
ended (a fraction within an epoch) and the epochs from there to the last.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from app.numeric.method import Schedule

Row = Callable[[Schedule, float, float], float]


def factor(schedule: Schedule, epochs: int, *, done: float, share: float) -> float:
    """What the rate is multiplied by in a step that begins after `done` of `epochs` epochs.

    `share`: the part of an epoch that the step takes. Warm-up reaches 1 at the end of its last
    step, and so never stands still at 0; what follows begins at 1 and counts from there.
    """
    warm_up = schedule.warm_up_epochs
    if done < warm_up:
        return min((done + share) / warm_up, 1.0)
    return SCHEDULES[schedule.name](schedule, done - warm_up, epochs - warm_up)


def _cosine(_: Schedule, done: float, epochs: float) -> float:
    """(1 + cos(pi done / epochs)) / 2, Loshchilov and Hutter 2017, eq. 5, without restarts."""
    return 0.5 * (1.0 + math.cos(math.pi * min(done / epochs, 1.0))) if epochs > 0 else 0.0


SCHEDULES: Mapping[str, Row] = MappingProxyType(
    {
        "constant": lambda *_: 1.0,
        "step": lambda schedule, done, _: schedule.factor ** (done // schedule.every_epochs),
        "cosine": _cosine,
    }
)
