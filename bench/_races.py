"""The races: full-batch steps, mini-batch steps, and time to a cost near the minimum."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from app.numeric.rows import Rows
from bench import _floor, _ours, _scipy_peers, _sklearn_peers, _torch_peers
from bench._contestants import Contestant, Fit, Limits, Setting
from bench._problem import Problem, judged_cost, safe_rate, start
from bench._stopwatch import Pace, Timing, race, timed
from bench._tables import Array

# How near to the minimum, relatively.
NEAR = 1e-6
# A contestant stops by its own sum of costs, which float32 makes wrong by up to this; judged in
# float64 it may then lie that much higher.
OWN_SUM_ERROR = {"float64": 1e-9, "float32": 1e-6}
# How long a sample of a step lasts at least: far longer than the clock's own jitter.
SAMPLE_SECONDS = 0.02

# The contestants of the mini-batch race, and the ways to the minimum.
OURS, OURS_WITH_HISTORY, FLOOR = "ours", "ours with history", "floor"
SCIPY, SCIPY_FROM_OURS = "SciPy from the start", "SciPy from ours"
TORCH_NN, TORCH_BY_HAND = "torch nn", "torch by hand"

# A peer is cut after that many times our time, but is given so many seconds.
PEER_TIMES_OURS_MAX = 100.0
PEER_SECONDS_MIN = 2.0
# A run this short is made again before its settings are chosen: the first one warms the caches.
WARM_UP_SECONDS_MAX = 1.0

# Hears what runs next.
Tell = Callable[[str], None]


class Effort(NamedTuple):
    """How much is measured: for steps, for runs to the minimum, and how long a run may take."""

    steps: Pace
    runs: Pace
    seconds_max: float


class StepResult(NamedTuple):
    """A full-batch step and the layouts of the two products alone."""

    task: str
    dtype: str
    ours: Timing
    layouts: Mapping[str, Timing]

    @property
    def floor(self) -> tuple[str, Timing]:
        return min(self.layouts.items(), key=lambda item: item[1].median)

    @property
    def share(self) -> float:
        """Speed of the step as a share of the floor's."""
        return self.floor[1].median / self.ours.median


class BatchResult(NamedTuple):
    """Seconds of a mini-batch step, an epoch's by its steps, by the names of the contestants.

    `costs`: judged after the first epoch, with the same rate for all.
    """

    task: str
    dtype: str
    batch_size: int
    steps: Mapping[str, Timing]
    costs: Mapping[str, float]


class Outcome(NamedTuple):
    """What a contestant did. `excess` is relative to the minimum, nan if it gave no parameters."""

    name: str
    library: str
    setting: str
    timing: Timing
    passes: int
    excess: float
    reached: bool
    cut: bool


class Minimum(NamedTuple):
    """The lowest cost that was found, and who found what."""

    cost: float
    found: Mapping[str, float]


class CostResult(NamedTuple):
    """A race to a cost near the minimum. Ours come first: held, then with the copy."""

    task: str
    dtype: str
    minimum: Minimum
    outcomes: tuple[Outcome, ...]


def step_race(problem: Problem, data: Rows, pace: Pace, tell: Tell) -> StepResult:
    layouts = _floor.layouts(problem.x, problem.y.shape[1])
    runs = {OURS: _ours.full_batch_step(problem, data), **layouts}
    timings = race(runs, pace, tell)
    return StepResult(problem.task.name, problem.dtype, timings.pop(OURS), timings)


def batch_race(
    problem: Problem, data: Rows, batch_size: int, pace: Pace, torch: Any | None, tell: Tell
) -> BatchResult:
    rate, plain = safe_rate(problem), problem._replace(l2=0.0)
    epochs: dict[str, _ours.Epochs | _torch_peers.Epochs] = {
        name: _ours.mini_batch_epochs(problem, data, batch_size, rate, history=history)
        for name, history in ((OURS, False), (OURS_WITH_HISTORY, True))
    }
    if torch is not None:
        epochs[TORCH_NN] = _torch_peers.nn_epochs(torch, problem, batch_size, rate)
        epochs[TORCH_BY_HAND] = _torch_peers.by_hand_epochs(torch, problem, batch_size, rate)
    known = {name: timed(epoch.run)[0] for name, epoch in epochs.items()}
    costs = {name: judged_cost(plain, epoch.parameters()) for name, epoch in epochs.items()}
    floor = _floor.layouts(problem.x[:batch_size], problem.y.shape[1])
    runs: dict[str, Callable[[], object]] = {name: each.run for name, each in epochs.items()}
    timings = race({**runs, **floor}, pace, tell, known=known)
    steps = math.ceil(len(problem.x) / batch_size)
    result = {name: timings[name].per(steps) for name in epochs}
    result[FLOOR] = min((timings[name] for name in floor), key=lambda timing: timing.median)
    return BatchResult(problem.task.name, problem.dtype, batch_size, result, costs)


def lowest(problem: Problem, data: Rows, seconds_max: float, tell: Tell) -> Minimum:
    """The minimum: ours run to its end, SciPy from the start, and SciPy from where ours ended.

    The last would go on down if ours had stopped too early; the lowest of the three counts.
    """
    unlimited = Limits(-math.inf, seconds_max)
    found: dict[str, float] = {}
    tell(OURS)
    ours = _ours.to_the_end(problem, data, seconds_max).parameters
    starts: dict[str, Array] = {SCIPY: start(problem)}
    if ours is not None and np.isfinite(ours).all():
        found[OURS] = judged_cost(problem, ours)
        starts[SCIPY_FROM_OURS] = ours
    for name, begin in starts.items():
        tell(name)
        end = _scipy_peers.lbfgs(problem, begin, unlimited).parameters
        found[name] = math.nan if end is None else judged_cost(problem, end)
    return Minimum(min(cost for cost in found.values() if math.isfinite(cost)), found)


def cost_race(
    problem: Problem,
    data: Rows,
    minimum: Minimum,
    effort: Effort,
    torch: Any | None,
    tell: Tell,
) -> CostResult:
    """Settings are chosen first, then those that reach the target race."""
    contestants = [
        *_ours.contestants(problem, data),
        *_sklearn_peers.contestants(problem),
        *([] if torch is None else _torch_peers.contestants(torch, problem)),
        *_scipy_peers.contestants(problem),
    ]
    limits = Limits(minimum.cost * (1 + NEAR), effort.seconds_max)
    chosen: list[tuple[Setting, Outcome]] = []
    for contestant in contestants:
        chosen.append(_chosen(contestant, problem, minimum.cost, limits, tell))
        ours = chosen[0][1]
        if ours.reached:
            enough = max(PEER_SECONDS_MIN, PEER_TIMES_OURS_MAX * ours.timing.median)
            limits = limits._replace(seconds_max=min(effort.seconds_max, enough))
    running = {
        outcome.name: _run_of(setting, limits) for setting, outcome in chosen if outcome.reached
    }
    known = {outcome.name: outcome.timing.median for _, outcome in chosen if outcome.reached}
    timings = race(running, effort.runs, tell, known=known)
    outcomes = tuple(
        outcome._replace(timing=timings.get(outcome.name, outcome.timing)) for _, outcome in chosen
    )
    return CostResult(problem.task.name, problem.dtype, minimum, outcomes)


def _run_of(setting: Setting, limits: Limits) -> Callable[[], Fit]:
    return lambda: setting.fit(limits)


def _chosen(
    contestant: Contestant, problem: Problem, minimum: float, limits: Limits, tell: Tell
) -> tuple[Setting, Outcome]:
    """The setting to race with and how its first run went; the last one if none gets there."""
    best: tuple[Setting, Outcome] | None = None
    for setting in contestant.settings:
        tell(f"{contestant.library} {contestant.name} {setting.text}")
        outcome = _first_run(contestant, setting, problem, minimum, limits)
        quicker = best is None or not best[1].reached
        if outcome.reached and best is not None and best[1].reached:
            quicker = outcome.timing.median < best[1].timing.median
        if quicker:
            best = (setting, outcome)
        if outcome.reached and not contestant.quickest:
            break
        if outcome.reached:
            limits = limits._replace(seconds_max=min(limits.seconds_max, outcome.timing.median))
        elif outcome.cut and not contestant.quickest:
            break  # a tighter tolerance takes longer still
    if best is None:
        raise ValueError(f"{contestant.name} has no setting")
    return best


def _first_run(
    contestant: Contestant, setting: Setting, problem: Problem, minimum: float, limits: Limits
) -> Outcome:
    seconds, fit = timed(lambda: setting.fit(limits))
    if seconds < WARM_UP_SECONDS_MAX:
        seconds, fit = timed(lambda: setting.fit(limits))
    excess = math.nan
    if fit.parameters is not None:
        excess = judged_cost(problem, fit.parameters) / minimum - 1
    reached = excess <= NEAR + OWN_SUM_ERROR[problem.dtype]
    return Outcome(
        contestant.name,
        contestant.library,
        setting.text,
        Timing((seconds,)),
        fit.passes,
        excess,
        reached,
        cut=not reached and seconds >= limits.seconds_max,
    )
