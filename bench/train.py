"""How quick training is, beside other libraries and beside what no step can do without.

Backsolve, scikit-learn, PyTorch and SciPy on one thread, in the same run: full-batch steps beside
their two matrix products, mini-batch steps, and the time to a cost within 1e-6 (relatively) of the
minimum. Every contestant minimises the same cost, the mean over rows of C + l2/2 |w|^2 with b free,
and one NumPy function judges where each ended. Data lie in the layout that each likes, in memory,
before its clock starts. Repeats are interleaved; the medians count.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from threadpoolctl import threadpool_limits

from bench import _ours, _report, _torch_peers
from bench._goals import Results, goals
from bench._problem import TASKS, Problem, Task, problem_of
from bench._races import (
    SAMPLE_SECONDS,
    Effort,
    Minimum,
    Tell,
    batch_race,
    cost_race,
    lowest,
    step_race,
)
from bench._stopwatch import Pace, Value
from bench._tables import TABLES, Table

DTYPES = ("float64", "float32")
GROUPS = tuple(dict.fromkeys(task.group for task in TASKS))
FULL = Effort(Pace(15, 15.0, SAMPLE_SECONDS), Pace(15, 12.0, SAMPLE_SECONDS), 60.0)
QUICK = Effort(Pace(5, 2.0, SAMPLE_SECONDS), Pace(5, 3.0, SAMPLE_SECONDS), 15.0)
WIDTH = 150
NO_TORCH = "PyTorch is not installed, so it does not race here: pip install torch==2.13.0"


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    # Tables that are piped into a file need their width too.
    width = None if sys.stdout.isatty() else WIDTH
    console = Console(highlight=False, width=width)
    with threadpool_limits(1):
        torch = _torch_peers.load()
        threadpool_limits(1)  # the pools that PyTorch has brought along
        _introduce(console, options, torch)
        effort = QUICK if options.quick else FULL
        results = _measure(console, options, effort, torch)
    _conclude(console, options, results)
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", metavar="NAMES", help=f"some of {','.join(GROUPS)}")
    parser.add_argument(
        "--quick", action="store_true", help="fewer repeats, a tenth of the rows of tall and mnist"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the results there")
    options = parser.parse_args(arguments)
    options.groups = options.only.split(",") if options.only else list(GROUPS)
    unknown = set(options.groups) - set(GROUPS)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; choose from {','.join(GROUPS)}")
    return options


def _introduce(console: Console, options: argparse.Namespace, torch: Any | None) -> None:
    for line in _report.environment_lines(_report.environment()):
        console.print(line)
    if torch is None:
        console.print(NO_TORCH)
    if options.quick:
        console.print("Quick: fewer repeats and smaller tables; the goals are about the full ones.")
    for name in dict.fromkeys(task.table for task in _tasks(options)):
        console.print(f"  {name}: {TABLES[name].about}")


def _tasks(options: argparse.Namespace) -> list[Task]:
    return [task for task in TASKS if task.group in options.groups]


def _measure(
    console: Console, options: argparse.Namespace, effort: Effort, torch: Any | None
) -> Results:
    """Table by table, so that only one is in memory."""
    results = Results({}, [], [], [])
    tasks = _tasks(options)
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    total = sum(1 + len(DTYPES) * (2 + len(task.batch_sizes)) for task in tasks)
    # A thread that draws would take turns with what is timed, so it is drawn between the runs.
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as progress:
        bar = Bar(progress, progress.add_task("", total=total))
        for name in dict.fromkeys(task.table for task in tasks):
            table = TABLES[name].make(options.quick)
            for task in (task for task in tasks if task.table == name):
                _measure_task(task, table, effort, torch, results, bar)
                for result in results.costs[-len(DTYPES) :]:
                    console.print(_report.cost_table(result))
                    console.print(*_report.lower_than_minimum(result), sep="\n", end="\n")
    return results


class Bar(NamedTuple):
    """The progress bar; `run` does one of its parts under a title."""

    progress: Progress
    number: TaskID

    def run(self, title: str, part: Callable[[Tell], Value]) -> Value:
        def tell(detail: str) -> None:
            self.progress.update(self.number, description=f"{title}: {detail}", refresh=True)

        tell("")
        value = part(tell)
        self.progress.advance(self.number)
        return value


def _measure_task(
    task: Task, table: Table, effort: Effort, torch: Any | None, results: Results, bar: Bar
) -> None:
    minimum = _minimum(task, table, effort, bar)
    results.minima[task.name] = minimum
    for dtype in DTYPES:
        _measure_problem(problem_of(task, table, dtype), minimum, effort, torch, results, bar)


def _minimum(task: Task, table: Table, effort: Effort, bar: Bar) -> Minimum:
    exact = problem_of(task, table, "float64")
    find = partial(lowest, exact, _ours.rows(exact), effort.seconds_max)
    return bar.run(f"{task.name} minimum", find)


def _measure_problem(
    problem: Problem,
    minimum: Minimum,
    effort: Effort,
    torch: Any | None,
    results: Results,
    bar: Bar,
) -> None:
    data = _ours.rows(problem)
    title = f"{problem.task.name} {problem.dtype}"
    step = partial(step_race, problem, data, effort.steps)
    results.steps.append(bar.run(f"{title} step", step))
    for size in problem.task.batch_sizes:
        batches = partial(batch_race, problem, data, size, effort.steps, torch)
        results.batches.append(bar.run(f"{title} batches of {size}", batches))
    runs = partial(cost_race, problem, data, minimum, effort, torch)
    results.costs.append(bar.run(f"{title} to the minimum", runs))


def _conclude(console: Console, options: argparse.Namespace, results: Results) -> None:
    reached = goals(results)
    console.print(_report.minimum_table(results.minima))
    console.print(_report.step_table(results.steps))
    console.print(_report.batch_table(results.batches))
    console.print(_report.goal_table(reached))
    if options.json:
        options.json.write_text(json.dumps(_report.as_json(results, reached), indent=1))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
