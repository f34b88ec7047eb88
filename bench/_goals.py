"""The goals, and how far the measured ratios are from them."""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from bench import _ours, _sklearn_peers, _torch_peers
from bench._races import OURS, TORCH_NN, BatchResult, CostResult, Minimum, Outcome, StepResult

STEP_GOALS = {
    "mnist softmax": 0.9,
    "tall identity": 0.75,
    "tall logistic": 0.75,
    "wide identity": 0.7,
}
LBFGS_GOALS = {
    "iris softmax": 20.0,
    "iris sigmoid squared": 20.0,
    "digits softmax": 5.0,
    "digits sigmoid squared": 5.0,
    "mnist softmax": 5.0,
}
SKLEARN_GOAL = 1.5
SMALL_BATCH, SMALL_BATCH_GOAL, BATCH_GOAL = 64, 10.0, 3.0


class Ratio(NamedTuple):
    """How many times as long a peer takes; at least that, where it was cut or never got there."""

    value: float
    at_least: bool


class Goal(NamedTuple):
    """What is wanted, and what was measured; None where there was no peer to measure."""

    text: str
    wanted: float
    measured: Ratio | None

    @property
    def verdict(self) -> str:
        if self.measured is None:
            return "not measured"
        value, at_least = self.measured
        if value >= self.wanted:
            return "met"
        if at_least:
            return "open: the peer was cut before it got there"
        return f"missed by {1 - value / self.wanted:.0%}"


class Results(NamedTuple):
    """All that was measured; `minima` by the name of the task."""

    minima: dict[str, Minimum]
    steps: list[StepResult]
    batches: list[BatchResult]
    costs: list[CostResult]


def ours_of(result: CostResult) -> Outcome:
    """Our run over rows that are held already."""
    return result.outcomes[0]


def ratio(peer: Outcome, ours: Outcome) -> Ratio | None:
    """The peer's time as a multiple of ours; None if ours never got there."""
    if not ours.reached:
        return None
    if not peer.reached and not peer.cut:
        return Ratio(math.inf, True)
    return Ratio(peer.timing.median / ours.timing.median, not peer.reached)


def best_ratio(result: CostResult, is_peer: Callable[[Outcome], bool]) -> Ratio | None:
    """That of the quickest of the peers that got there, else of the one that was cut first."""
    ours = ours_of(result)
    peers = [outcome for outcome in result.outcomes if is_peer(outcome)]
    ratios = [found for found in (ratio(peer, ours) for peer in peers) if found is not None]
    # A peer that got there in less time than others were given is the quickest of all.
    return min(ratios, default=None, key=lambda found: (found.value, found.at_least))


def goals(results: Results) -> list[Goal]:
    return [
        *_cost_goals(results.costs),
        *_batch_goals(results.batches),
        *_step_goals(results.steps),
    ]


def _cost_goals(costs: Iterable[CostResult]) -> Iterable[Goal]:
    for result in costs:
        name = f"{result.task} {result.dtype}"
        if not ours_of(result).reached:
            yield Goal(f"{name}: within 1e-6 of the minimum", 1.0, Ratio(0.0, False))
            continue
        wanted = LBFGS_GOALS.get(result.task)
        if wanted:
            lbfgs = best_ratio(result, lambda o: _is_torch(o) and o.name.startswith("LBFGS"))
            yield Goal(f"{name}: time of PyTorch L-BFGS / ours", wanted, lbfgs)
        if any(o.library == _sklearn_peers.LIBRARY for o in result.outcomes):
            sklearn = best_ratio(result, lambda o: o.library == _sklearn_peers.LIBRARY)
            yield Goal(f"{name}: time of the best of scikit-learn / ours", SKLEARN_GOAL, sklearn)
        any_peer = best_ratio(result, lambda o: o.library != _ours.LIBRARY)
        yield Goal(f"{name}: time of the quickest peer / ours", 1.0, any_peer)


def _is_torch(outcome: Outcome) -> bool:
    return outcome.library == _torch_peers.LIBRARY


def _batch_goals(batches: Iterable[BatchResult]) -> Iterable[Goal]:
    for result in batches:
        name = f"{result.task} {result.dtype} batches of {result.batch_size}"
        wanted = SMALL_BATCH_GOAL if result.batch_size <= SMALL_BATCH else BATCH_GOAL
        peer = result.steps.get(TORCH_NN)
        ours = result.steps[OURS].median
        measured = None if peer is None else Ratio(peer.median / ours, False)
        yield Goal(f"{name}: step of torch nn + SGD / ours", wanted, measured)


def _step_goals(steps: Iterable[StepResult]) -> Iterable[Goal]:
    for result in steps:
        wanted = STEP_GOALS.get(result.task)
        if wanted:
            text = f"{result.task} {result.dtype}: full-batch step, speed / floor"
            yield Goal(text, wanted, Ratio(result.share, False))
