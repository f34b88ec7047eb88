"""The results as tables to read, and as JSON."""

import math
import os
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any

from rich import box
from rich.table import Table
from threadpoolctl import threadpool_info

from bench._goals import Goal, Ratio, Results, ours_of, ratio
from bench._races import (
    FLOOR,
    OURS,
    OURS_WITH_HISTORY,
    SCIPY,
    SCIPY_FROM_OURS,
    TORCH_BY_HAND,
    TORCH_NN,
    BatchResult,
    CostResult,
    Minimum,
    Outcome,
    StepResult,
)
from bench._stopwatch import Timing

WAYS = (OURS, SCIPY, SCIPY_FROM_OURS)
LIBRARIES = ("numpy", "scipy", "scikit-learn", "torch")


def environment() -> dict[str, Any]:
    """What the figures depend on: libraries, kernels, threads and what else the machine does."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    pools = sorted(
        {
            f"{pool['internal_api']} {pool.get('version')} {pool.get('architecture', '')}".strip()
            + f", threads: {pool['num_threads']}"
            for pool in threadpool_info()
        }
    )
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else math.nan
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "load": load,
        "versions": versions,
        "pools": pools,
    }


def environment_lines(about: Mapping[str, Any]) -> list[str]:
    """The environment in plain lines."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return [
        f"Python {about['python']} on {about['machine']}, load {about['load']:.1f} at the start",
        versions,
        *about["pools"],
    ]


def step_table(results: Iterable[StepResult]) -> Table:
    table = _table(
        "Full-batch step (cost and slope over all rows) against its two matrix products alone",
        ("task", "dtype"),
        ("floor", "ours", "ours, spread", "speed / floor", "layout of the floor"),
    )
    for result in results:
        layout, floor = result.floor
        table.add_row(
            result.task,
            result.dtype,
            _duration(floor.median),
            _duration(result.ours.median),
            _spread(result.ours),
            f"{result.share:.2f}",
            layout,
        )
    return table


def batch_table(results: Iterable[BatchResult]) -> Table:
    """`x` columns say how many times as long the peer's step takes as ours."""
    table = _table(
        "Mini-batch step of gradient descent, rows drawn anew each epoch (+ history: with its share"
        "\nof the cost over all rows that ends an epoch of ours; costs: after one epoch, of ours, "
        "nn, by hand)",
        ("task", "dtype"),
        ("B", "floor", "ours", "spread", "+ history", "torch nn", "x", "by hand", "x", "costs"),
    )
    for result in results:
        steps, ours = result.steps, result.steps[OURS]
        peers = []
        for name in (TORCH_NN, TORCH_BY_HAND):
            peer = steps.get(name)
            peers += ["-", "-"] if peer is None else _against(peer, ours)
        table.add_row(
            result.task,
            result.dtype,
            str(result.batch_size),
            _duration(steps[FLOOR].median),
            _duration(ours.median),
            _spread(ours),
            _duration(steps[OURS_WITH_HISTORY].median),
            *peers,
            " ".join(
                f"{cost:.3g}" for name, cost in result.costs.items() if name != OURS_WITH_HISTORY
            ),
        )
    return table


def minimum_table(results: Mapping[str, Minimum]) -> Table:
    table = _table(
        "The minimum, and how far above it each way to it ended (relatively)",
        ("task",),
        ("cost", *WAYS),
    )
    for name, minimum in results.items():
        excesses = [
            f"{minimum.found[way] / minimum.cost - 1:.1e}" if way in minimum.found else "-"
            for way in WAYS
        ]
        table.add_row(name, f"{minimum.cost:.12g}", *excesses)
    return table


def cost_table(result: CostResult) -> Table:
    table = _table(
        f"{result.task}, {result.dtype}: time to a cost within 1e-6 of the minimum",
        ("contestant", "setting"),
        ("time", "spread", "x ours", "x with copy", "passes", "judged excess"),
    )
    held, copied = result.outcomes[:2]
    for outcome in result.outcomes:
        table.add_row(
            f"{outcome.library} {outcome.name}",
            outcome.setting,
            _outcome_time(outcome),
            _spread(outcome.timing),
            _ratio(ratio(outcome, held)),
            _ratio(ratio(outcome, copied)),
            str(outcome.passes or "-"),
            "-" if math.isnan(outcome.excess) else f"{outcome.excess:.1e}",
            style="bold" if outcome is ours_of(result) else None,
        )
    return table


def lower_than_minimum(result: CostResult) -> list[str]:
    """A sentence for each contestant that went below the minimum: then it was none."""
    return [
        f"{outcome.library} {outcome.name} went {-outcome.excess:.1e} below the minimum of "
        f"{result.task}: it is another one, or ours ended too early."
        for outcome in result.outcomes
        if outcome.excess < -1e-9
    ]


def goal_table(goals: Iterable[Goal]) -> Table:
    table = _table("Goals", ("goal",), ("wanted", "measured"), ("verdict",))
    for goal in goals:
        style = {"met": "green", "not": "yellow", "ope": "yellow"}.get(goal.verdict[:3], "red")
        table.add_row(
            goal.text,
            f"{goal.wanted:g}",
            _ratio(goal.measured),
            f"[{style}]{goal.verdict}[/{style}]",
        )
    return table


def as_json(results: Results, goals: list[Goal]) -> dict[str, Any]:
    """All results as plain values; what is not a number becomes a string."""
    return {
        "environment": environment(),
        **_plain(results),
        "goals": [_plain(goal) | {"verdict": goal.verdict} for goal in goals],
    }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: _plain(item) for name, item in value._asdict().items()}
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _table(
    title: str, words: Iterable[str], numbers: Iterable[str], last: Iterable[str] = ()
) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for name in words:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", overflow="fold")
    for name in last:
        table.add_column(name, overflow="fold")
    return table


def _against(peer: Timing, ours: Timing) -> list[str]:
    return [_duration(peer.median), f"{peer.median / ours.median:.1f}"]


def _outcome_time(outcome: Outcome) -> str:
    return f"{'> ' if outcome.cut else ''}{_duration(outcome.timing.median)}"


def _ratio(found: Ratio | None) -> str:
    if found is None:
        return "-"
    if math.isinf(found.value):
        return "never"
    digits = 2 if found.value < 10 else 0
    return f"{'> ' if found.at_least else ''}{found.value:.{digits}f}"


def _duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def _spread(timing: Timing) -> str:
    """How far the lowest and the highest repeat lie from the median, and how many there were."""
    low, high = min(timing.samples), max(timing.samples)
    if len(timing.samples) == 1:
        return "once"
    return f"{low / timing.median - 1:+.0%} {high / timing.median - 1:+.0%} {len(timing.samples)}"
