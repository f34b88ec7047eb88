"""How quick the way back is, and how near its answers, beside SciPy and DiCE. One thread.

1. The time of the server for one question at 100 inputs (body to answer, without HTTP).
2. 1,000 targets in one batch against 1,000 runs of SciPy's L-BFGS-B on C, same limits.
3. Distance and success against DiCE (random and genetic search) on breast cancer: same model, same
   ranges, same frozen inputs. DiCE asks nothing of the model but predictions and solves a harder,
   more general problem; we know that ours is one layer.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from functools import partial
from io import StringIO
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import optimize, special
from sklearn import datasets
from threadpoolctl import threadpool_limits

from app.inference.inversion import invert
from app.inference.inversion_schemas import InvertIn
from app.models.trained_model import Classes, Output, TrainedModel
from app.numeric.activations import Array
from app.numeric.inversion.batch import nearest_to_one
from app.numeric.layer import Layer
from app.numeric.preprocessing import NumericInput, Preprocessing
from app.numeric.rows import rows_of
from app.numeric.training import TrainingData, TrainingPlan, train
from bench import _dice_peer

INPUTS, TARGETS, REPEATS = 100, 1000, 5
GOAL_SECONDS, GOAL_RATIO = 5e-3, 100.0
BINDING = 0.3


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.invert", description=__doc__)
    parser.add_argument("--queries", type=int, default=20, help="of each search of DiCE")
    options = parser.parse_args(arguments)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    with threadpool_limits(1):
        console.print(server_table())
        console.print(batch_table())
        console.print(search_table(options.queries))
    return 0


def random_model(activation: str) -> TrainedModel:
    """100 inputs of different units, weights as a penalised fit has them."""
    random = np.random.default_rng(0)
    inputs = []
    for k in range(INPUTS):
        mean, scale = float(random.normal(0, 100)), float(10.0 ** random.uniform(-2, 2))
        low, high = mean - 3 * scale, mean + 3 * scale
        inputs.append(NumericInput(f"x{k}", mean, scale, low, high, offset=mean))
    layer = Layer(random.normal(size=(1, INPUTS)) / 10, np.zeros(1), activation)
    output = Output("y", 0.0, 1.0)
    return TrainedModel("mdl_bench", 1, layer, Preprocessing(tuple(inputs)), (output,))


def server_table() -> Table:
    """The quickest questions: closed form, with and without limits of one's own."""
    table = Table("question, 100 inputs", "median", "slowest of 200", "goal", title="Server time")
    model = random_model("sigmoid")
    limits = {f"x{k}": {"frozen": True} for k in range(0, INPUTS, 3)}
    bodies = {
        "a value": {"target": {"y": 0.9}, "within": "anything"},
        "a value within the training range": {"target": {"y": 0.9}},
        "an interval, a third frozen": {"target": {"y": {"min": 0.9}}, "features": limits},
        "the same by l2 with prices": {
            "target": {"y": {"min": 0.9}},
            "features": limits,
            "return": ["duals"],
        },
        "the same by l1": {"target": {"y": {"min": 0.9}}, "features": limits, "nearness": "l1"},
    }
    for name, body in bodies.items():
        text = orjson.dumps(body)
        samples = sorted(timed(partial(answer, model, text)) for _ in range(200))
        met = "met" if statistics.median(samples) < GOAL_SECONDS else "missed"
        table.add_row(name, ms(statistics.median(samples)), ms(samples[-1]), f"5 ms: {met}")
    return table


def answer(model: TrainedModel, text: bytes) -> bytes:
    body = InvertIn.model_validate_json(text)
    return orjson.dumps(invert(model, body, steps_max=100_000, seconds_max=10.0))


def batch_table() -> Table:
    """Ours as a whole request, and its numbers alone, against one L-BFGS-B run after another."""
    table = Table("1,000 targets", "time", "x ours", "|y - target|", "distance", title="Batch")
    model = random_model("sigmoid")
    targets = np.random.default_rng(1).uniform(0.05, 0.95, TARGETS)
    body = orjson.dumps({"items": [{"target": {"y": float(y)}} for y in targets]})
    w = model.layer.w[0]
    for words, limit in (("limits at 3", 3.0), ("limits at 0.3, which bind", BINDING)):
        ours = partial(ours_within, w, special.logit(targets), limit)
        seconds = time_of(ours)
        table.add_row(f"ours, the numbers, {words}", ms(seconds), "1.0", *shown(ours(), w, targets))
        theirs = partial(theirs_within, w, targets, limit)
        ratio = time_of(theirs) / seconds
        met = "met" if ratio >= GOAL_RATIO else "missed"
        table.add_row(
            f"SciPy L-BFGS-B on C, {words}",
            ms(ratio * seconds),
            f"{ratio:.1f} ({GOAL_RATIO:g} wanted: {met})",
            *shown(theirs(), w, targets),
        )
    table.add_row("ours, body to answer, limits at 3", ms(time_of(lambda: answer(model, body))))
    return table


def ours_within(w: Array, z: Array, limit: float) -> Array:
    limits, ones = np.full((TARGETS, INPUTS), limit), np.ones(INPUTS)
    return nearest_to_one(w, z, z, -limits, limits, ones, ones).d


def theirs_within(w: Array, targets: Array, limit: float) -> Array:
    return np.array([descended(w, y, limit) for y in targets])


def time_of(run: Callable[[], object]) -> float:
    return statistics.median(timed(run) for _ in range(REPEATS))


def shown(d: Array, w: Array, targets: Array) -> tuple[str, str]:
    """How far the answers miss, of those that both could reach, and how far they go."""
    missed = np.abs(special.expit(d @ w) - targets)
    reachable = np.abs(special.logit(targets)) < np.abs(w).sum() * BINDING
    distance = np.sqrt(np.square(d).sum(axis=1))
    return f"{missed[reachable].max():.0e}", f"{np.median(distance[reachable]):.4f}"


def descended(w: Array, target: float, limit: float) -> Array:
    """Down C = 1/2 (sigma(w d) - target)^2 from 0 within the box."""

    def cost(d: Array) -> tuple[float, Array]:
        y = special.expit(w @ d)
        return 0.5 * float(y - target) ** 2, (y - target) * y * (1 - y) * w

    options = {"ftol": 1e-20, "gtol": 1e-10}
    limits = optimize.Bounds(np.full(len(w), -limit), np.full(len(w), limit))
    minimize: Any = optimize.minimize  # its types do not know a cost that gives its slope too
    found = minimize(
        cost, np.zeros(len(w)), jac=True, method="L-BFGS-B", bounds=limits, options=options
    )
    return np.asarray(found.x)


class Search(NamedTuple):
    seconds: list[float]
    found: int
    distances: list[float]


def search_table(queries: int) -> Table:
    """The other class with a probability above one half, a fifth of the inputs frozen."""
    title = f"Breast cancer, {queries} queries: the nearest input of the other class"
    table = Table("", "time of one", "x ours", "found", "median distance (l2, scaled)", title=title)
    model, raw, codes = breast_cancer()
    frozen = list(model.input_names)[::5]
    rows = np.random.default_rng(3).choice(len(raw), queries, replace=False)
    searches: dict[str, Callable[[int], Array | None]] = {
        "ours": lambda row: flipped(model, raw[row], frozen)
    }
    library = _dice_peer.load()
    if library is not None:
        ranges = {column.name: [column.minimum, column.maximum] for column in numbers(model)}
        vary = [name for name in model.input_names if name not in frozen]
        for method in ("random", "genetic"):
            peer = _dice_peer.Dice(library, method, model, raw, codes)
            searches[f"DiCE, {method}"] = partial(peer.counterfactual, ranges=ranges, vary=vary)
    found = {name: searched(model, raw, rows, search, name) for name, search in searches.items()}
    ours = statistics.median(found["ours"].seconds)
    for name, search in found.items():
        seconds = statistics.median(search.seconds)
        distance = f"{statistics.median(search.distances):.3f}" if search.distances else ""
        share = f"{search.found} of {queries}"
        table.add_row(name, ms(seconds), f"{seconds / ours:,.0f}", share, distance)
    if library is None:
        table.caption = _dice_peer.MISSING
    return table


def searched(
    model: TrainedModel,
    raw: Array,
    rows: NDArray[np.intp],
    search: Callable[[int], Array | None],
    name: str,
) -> Search:
    result = Search([], 0, [])
    scale = np.array([column.scale for column in numbers(model)])
    before = model.predict(raw)[:, 0] > 0.5
    for row in track(rows, description=name, transient=True):
        started = time.perf_counter()
        with redirect_stderr(StringIO()):
            answer = search(int(row))
        result.seconds.append(time.perf_counter() - started)
        if answer is None or (model.predict(answer[None])[0, 0] > 0.5) == before[row]:
            continue
        change = (answer - raw[row]) / scale
        result.distances.append(float(np.sqrt(np.square(change).sum())))
        result = result._replace(found=result.found + 1)
    return result


def flipped(model: TrainedModel, row: Array, frozen: Sequence[str]) -> Array | None:
    positive = model.predict(row[None])[0, 0] > 0.5
    body = InvertIn.model_validate(
        {
            "from": dict(zip(model.input_names, row.tolist(), strict=True)),
            "target": {"diagnosis": {"class": "0" if positive else "1"}},
            "features": {name: {"frozen": True} for name in frozen},
        }
    )
    found = invert(model, body, steps_max=100_000, seconds_max=10.0)
    if not found["solutions"]:
        return None
    values: dict[str, Any] = found["solutions"][0]["input"]
    return np.array([values[name] for name in model.input_names])


def numbers(model: TrainedModel) -> list[NumericInput]:
    return [column for column in model.preprocessing.inputs if isinstance(column, NumericInput)]


def breast_cancer() -> tuple[TrainedModel, Array, Array]:
    """A logistic layer on all rows, trained as the service would."""
    raw, codes = datasets.load_breast_cancer(return_X_y=True)
    mean, scale = raw.mean(axis=0), raw.std(axis=0)
    inputs = tuple(
        NumericInput(f"f{k}", mean[k], scale[k], raw[:, k].min(), raw[:, k].max(), offset=mean[k])
        for k in range(raw.shape[1])
    )
    y = codes[:, None].astype(float)
    rows = rows_of((raw - mean) / scale, y)
    plan = TrainingPlan("sigmoid", "cross_entropy", "newton", l2=1.0 / len(raw))
    layer = list(train(TrainingData(rows, None), plan))[-1].layer
    outputs = (Output("diagnosis=1", 0.0, 1.0),)
    classes = Classes("diagnosis", ("0", "1"))
    model = TrainedModel("mdl_bench", 1, layer, Preprocessing(inputs), outputs, classes)
    return model, raw, codes


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.3g} ms"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
