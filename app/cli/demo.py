"""The demo command: the real service, run through once on a real table of concrete mixes."""

import csv
import importlib
import importlib.util
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import numpy as np
from rich.console import Console
from rich.text import Text

from app.cli import plot
from app.cli.plot import Curve
from app.cli.terminal import begin, grid, is_unicode, say, show, terminal, waiting
from app.client import Backsolve, BacksolveError, History, Job, Model
from app.numeric.split import Split, split

SAMPLE = Path(__file__).parent / "sample" / "concrete.csv"
TARGET = "compressive_strength"
WANTED_MPA = 50.0
OUT_OF_REACH_MPA = 150.0
TOLERANCE = 1e-6

READY_SECONDS = 120.0
JOB_SECONDS = 120.0
STOP_SECONDS = 30.0
LOG_LINES_SHOWN = 12

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Row = dict[str, float]


class DemoFailed(Exception):
    """Something that the demo promises does not hold; the message says what."""


def main() -> int:
    """The exit code: 0 if all that was shown holds, 130 after Ctrl-C."""
    console = terminal()
    # By default these two would end this process before it has ended the service.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(
            prefix="backsolve-demo-", ignore_cleanup_errors=True
        ) as folder:
            tell(console, Path(folder), free_port())
    except KeyboardInterrupt:
        console.print("\nStopped; nothing is left behind.")
        return 130
    except (DemoFailed, BacksolveError) as error:
        console.print(Text(f"\nThe demo failed: {error}"), soft_wrap=True)
        return 1
    return 0


def tell(console: Console, folder: Path, port: int) -> None:
    """The whole story. Raises DemoFailed, with the end of the service's log, if it goes wrong."""
    console.print("Backsolve trains one layer on your table and runs it both ways.", style="bold")
    say(console, "The real service, over HTTP; nothing stays behind. About ten seconds.", indent=0)
    url = f"http://127.0.0.1:{port}"
    # A transport of its own keeps clear of proxies that the environment names.
    with (
        service(console, folder, port) as process,
        Backsolve(url, transport=httpx.HTTPTransport()) as backsolve,
    ):
        begin(console, "1  Start the service", "python -m app run")
        seconds = wait_until_ready(console, process, backsolve)
        say(console, f"{url} is ready after {seconds:.1f} s, its data in a throw-away folder.")
        rows = read_sample()
        dataset_id = upload(console, backsolve, rows)
        model, parts = train(console, backsolve, dataset_id, rows)
        train_by_gradient_descent(console, backsolve, dataset_id)
        predict(console, backsolve, model, rows, parts)
        invert(console, backsolve, model, rows)
    next_steps(console)


def upload(console: Console, backsolve: Backsolve, rows: Sequence[Row]) -> str:
    begin(console, "2  Upload a table", "POST /v1/datasets")
    dataset = backsolve.upload(SAMPLE)
    require(dataset.row_count == len(rows), "the service read another number of rows")
    say(
        console,
        f"{SAMPLE.name}: {dataset.row_count:,} mixes of concrete. Seven ingredients in kg/m3 and "
        "the age in days, then the strength in MPa that was measured. "
        "Data by I-Cheng Yeh, UCI, CC BY 4.0.",
    )
    return dataset.id


def train(
    console: Console, backsolve: Backsolve, dataset_id: str, rows: Sequence[Row]
) -> tuple[Model, Split]:
    """The model, and which rows it was trained on."""
    begin(console, "3  Train", "POST /v1/jobs")
    job = finished(console, backsolve.train(dataset_id, TARGET))
    model = job.model()
    parts = split(len(rows), fraction=job.spec["validation"]["fraction"], seed=job.spec["seed"])
    say(
        console,
        f"Learns the strength from the other {len(model.inputs)} columns, on four rows in five; "
        "the rest are held out, to see how it does on mixes it does not know. "
        f"Solver {job.spec['solver']['name']}: {job.spec['solver']['reason']}",
    )
    table = grid("", "rows", "R2", "RMSE")
    for name, part, count in (
        ("trained on", "training", len(parts.training)),
        ("held out", "validation", len(parts.validation)),
    ):
        scores = model.scores[part]
        table.add_row(name, str(count), f"{scores['r2']:.6f}", f"{scores['rmse']:.2f} MPa")
    show(console, table)
    say(console, "R2: 1 is perfect, 0 is as good as always saying the mean.")
    compare_with_scikit_learn(console, rows, parts, model)
    return model, parts


def compare_with_scikit_learn(
    console: Console, rows: Sequence[Row], parts: Split, model: Model
) -> None:
    """One line where scikit-learn is installed (it is for developers), none elsewhere."""
    if importlib.util.find_spec("sklearn") is None:
        return
    x = np.array([[row[name] for name in model.inputs] for row in rows])
    y = np.array([row[TARGET] for row in rows])
    peer = importlib.import_module("sklearn.linear_model").LinearRegression()
    peer.fit(x[parts.training], y[parts.training])
    r2 = float(peer.score(x[parts.validation], y[parts.validation]))
    difference = abs(r2 - (model.scores["validation"]["r2"] or 0.0))
    say(
        console,
        f"scikit-learn's LinearRegression, held out: R2 {r2:.6f}, difference {difference:.0e}.",
    )
    require(difference <= TOLERANCE, f"R2 differs from scikit-learn's by {difference:.1e}")


def train_by_gradient_descent(console: Console, backsolve: Backsolve, dataset_id: str) -> None:
    begin(console, "4  Watch it learn", "GET /v1/jobs/{id}/history")
    job = finished(
        console,
        backsolve.train(
            dataset_id, TARGET, solver={"name": "gradient_descent", "learning_rate": 0.01}
        ),
    )
    history = job.history()
    say(console, "The same layer again, by gradient descent in small steps. RMSE in MPa:")
    draw_rmse(console, history)
    best = (job.scores or {})["validation"]["r2"]
    say(
        console,
        f"It stopped after epoch {history.epoch[-1]} ({job.stop_reason}) and kept the epoch that "
        f"was best on the rows held out: R2 {best:.6f}.",
    )
    require(bool(history.cost[-1] < history.cost[0]), "gradient descent did not lower the cost")


def draw_rmse(console: Console, history: History) -> None:
    pens = plot.UNICODE if is_unicode(console) else plot.ASCII
    # Without a penalty the cost is half the mean square error.
    curves = (
        Curve("held out", history.epoch, np.sqrt(2 * history.validation_cost), pens.light),
        Curve("trained on", history.epoch, np.sqrt(2 * history.cost), pens.heavy),
    )
    for line in plot.plot(curves, columns=console.width - 3, x_name="epoch", axis=pens.axis):
        console.print(Text("   ").append_text(line), soft_wrap=True)


def predict(
    console: Console, backsolve: Backsolve, model: Model, rows: Sequence[Row], parts: Split
) -> None:
    begin(console, "5  Predict: what does this mix give?", "POST /v1/models/{id}/predict")
    by_strength = sorted(parts.validation, key=lambda number: rows[number][TARGET])
    numbers = [int(by_strength[len(by_strength) * quarter // 4]) for quarter in (1, 2, 3)]
    answer = backsolve.predict(model.id, rows=[inputs_of(rows[number]) for number in numbers])
    say(console, "Three mixes that the model has never seen:")
    table = grid("row", "cement", "water", "age", "measured", "predicted", words=0)
    for number, predicted in zip(numbers, answer.y[TARGET], strict=True):
        row = rows[number]
        cells = [f"{row[name]:g}" for name in ("cement", "water", "age")]
        table.add_row(str(number + 1), *cells, f"{row[TARGET]:.1f} MPa", f"{predicted:.1f} MPa")
    show(console, table)
    require(bool(np.isfinite(answer.y[TARGET]).all()), "a prediction is not finite")


def invert(console: Console, backsolve: Backsolve, model: Model, rows: Sequence[Row]) -> None:
    begin(console, "6  Invert: what would have to change?", "POST /v1/models/{id}/invert")
    number = middling_mix(rows)
    start = inputs_of(rows[number])
    now = backsolve.predict(model.id, rows=[start]).y[TARGET][0]
    features = {"age": {"frozen": True}}
    say(
        console,
        f"Row {number + 1} is 28 days old and measured {rows[number][TARGET]:.1f} MPa; the model "
        f"says {now:.1f}. To reach {WANTED_MPA:g} MPa at the same age, within the ranges of the "
        "table, change as little as possible:",
    )
    found = backsolve.invert(model.id, {TARGET: WANTED_MPA}, start=start, features=features)
    require(len(found.solutions) > 0, f"the inversion found nothing: {found.status}")
    best = found.solutions[0]
    table = grid("kg/m3", "from", "to", "change")
    for change in best.changes:
        cells = (f"{change.start:.1f}", f"{change.to:.1f}", f"{change.delta:+.1f}")
        table.add_row(change.feature, *cells)
    show(console, table)
    reached = backsolve.predict(model.id, rows=[best.input]).y[TARGET][0]
    distance = abs(reached - WANTED_MPA)
    say(
        console,
        f"Checked with predict: it gives {reached:.6f} MPa, |prediction - target| = "
        f"{distance:.0e}.",
    )
    require(best.verified and distance <= TOLERANCE, "the inversion is not what predict says")
    require(best.input["age"] == start["age"], "the inversion changed the age")
    beyond = backsolve.invert(model.id, {TARGET: OUT_OF_REACH_MPA}, start=start, features=features)
    if beyond.infeasibility is None:
        raise DemoFailed(f"{OUT_OF_REACH_MPA:g} MPa should be out of reach.")
    most = beyond.infeasibility.attainable[TARGET].max
    say(console, f"And {OUT_OF_REACH_MPA:g} MPa? Out of reach: the most is {most:.1f} MPa.")


def next_steps(console: Console) -> None:
    sample = shlex.quote(os.path.relpath(SAMPLE))
    begin(console, "Everything above holds. Now for yourself:")
    for line in (
        "python3 dev.py run",
        "curl http://127.0.0.1:8000/v1/datasets -H 'Content-Type: text/csv' \\",
        f"     --data-binary @{sample}",
    ):
        console.print(f"   {line}", soft_wrap=True)
    say(console, "The API is at http://127.0.0.1:8000/openapi.json, the client in app/client.")


def finished(console: Console, job: Job) -> Job:
    with waiting(console, "waiting for a worker") as moved:

        def watch(job: Job) -> None:
            if job.progress is not None:
                moved(f"training, epoch {job.progress.epoch}", job.progress.fraction)

        return job.wait(JOB_SECONDS, on_progress=watch)


def read_sample() -> list[Row]:
    with SAMPLE.open(newline="") as lines:
        return [{name: float(cell) for name, cell in row.items()} for row in csv.DictReader(lines)]


def inputs_of(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != TARGET}


def middling_mix(rows: Sequence[Row]) -> int:
    """The median strength among the mixes of 28 days that hold some of every ingredient."""
    numbers = [
        number for number, row in enumerate(rows) if row["age"] == 28 and min(row.values()) > 0
    ]
    return sorted(numbers, key=lambda number: rows[number][TARGET])[len(numbers) // 2]


def require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise DemoFailed(f"{otherwise}.")


@contextmanager
def service(console: Console, folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The service on this port until the end of the block, however that comes."""
    log = folder / "service.log"
    with ExitStack() as stack:
        with undisturbed():
            process = start(folder, port, log)
            stack.callback(stop, console, process)
        try:
            yield process
        except (DemoFailed, BacksolveError) as error:
            lines = log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
            told = "\n".join(f"  {line}" for line in lines)
            raise DemoFailed(f"{error}\n\nThe service's last words:\n{told}") from error


def start(folder: Path, port: int, log: Path) -> subprocess.Popen[bytes]:
    """In a session of its own, so that Ctrl-C reaches it only through us."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("BACKSOLVE_")}
    settings = {
        "BACKSOLVE_DATA_DIR": str(folder / "data"),
        "BACKSOLVE_HOST": "127.0.0.1",
        "BACKSOLVE_PORT": str(port),
        "BACKSOLVE_WORKERS": "1",
    }
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "app", "run", "--with-parent"],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**own, **settings},
            start_new_session=True,
        )


def stop(console: Console, process: subprocess.Popen[bytes]) -> None:
    with undisturbed(), waiting(console, "stopping the service"):
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            # Its children end by themselves once they have lost it.
            process.kill()
            process.wait()
        assert process.stdin is not None  # noqa: S101 - it was started with a pipe
        process.stdin.close()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C takes effect at the end of the block: a process half started would stay for ever."""
    pressed: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: pressed.append(number))
        for number in INTERRUPTS
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if pressed:
        raise KeyboardInterrupt


def wait_until_ready(
    console: Console, process: subprocess.Popen[bytes], backsolve: Backsolve
) -> float:
    """The seconds it took. Raises DemoFailed if the service ends, or is not ready in time."""
    started = time.monotonic()
    with waiting(console, "starting"):
        while not backsolve.is_ready(timeout_seconds=2.0):
            if process.poll() is not None:
                raise DemoFailed(f"the service ended with exit code {process.returncode}.")
            if time.monotonic() - started > READY_SECONDS:
                raise DemoFailed(f"the service was not ready after {READY_SECONDS:g} s.")
            time.sleep(0.1)
    return time.monotonic() - started


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
