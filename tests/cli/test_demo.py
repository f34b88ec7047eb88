"""`python -m app demo`, run as a newcomer runs it."""

import csv
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from rich.console import Console
from sklearn.linear_model import LinearRegression

from app.cli import demo
from tests.servers import ROOT

SECONDS_MAX = 120
SAMPLE = ROOT / "app" / "cli" / "sample" / "concrete.csv"


def started(temporary: Path, **environment: str) -> subprocess.Popen[str]:
    """The demo in a pipe, with its throw-away folder in `temporary`."""
    return subprocess.Popen(
        [sys.executable, "-m", "app", "demo"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@pytest.fixture
def ctrl_c_is_heard() -> Iterator[None]:
    """A shell that runs tests in the background has them ignore Ctrl-C, and so what they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a demo that went well says; also checked here: that it leaves nothing behind."""
    folder = tmp_path_factory.mktemp("tmp")
    # Settings of the developer must not bend what the demo shows.
    with started(folder, BACKSOLVE_PORT="1", BACKSOLVE_DATABASE_URL="nonsense") as process:
        text, _ = process.communicate(timeout=SECONDS_MAX)

    assert process.returncode == 0, text
    assert list(folder.iterdir()) == []
    assert [p for p in psutil.process_iter() if str(folder) in environment_of(p)] == []
    return text


def environment_of(process: psutil.Process) -> str:
    try:
        return str(process.environ())
    except psutil.Error:
        return ""


def number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found is not None, text
    return float(found[1])


def test_its_r2_is_that_of_scikit_learn_on_the_documented_split(told: str) -> None:
    with SAMPLE.open(newline="") as lines:
        table = np.array([list(map(float, row)) for row in list(csv.reader(lines))[1:]])
    order = np.random.Generator(np.random.Philox(0)).permutation(len(table))
    held_out, trained_on = np.split(table[order], [round(0.2 * len(table))])

    peer = LinearRegression().fit(trained_on[:, :-1], trained_on[:, -1])

    for part, name in ((trained_on, "trained on"), (held_out, "held out")):
        expected = peer.score(part[:, :-1], part[:, -1])
        assert number(rf"{name} +{len(part)} +([\d.]+) ", told) == pytest.approx(expected, abs=1e-6)


def test_its_inversion_is_verified(told: str) -> None:
    assert number(r"it gives ([\d.]+) MPa", told) == pytest.approx(50.0, abs=1e-6)
    assert number(r"\|prediction - target\| =\s+([\d.e+-]+)\.\s", told) <= 1e-6
    assert re.search(r"^   age ", told, re.MULTILINE) is None


def test_its_story_is_complete_and_plain(told: str) -> None:
    headings = re.findall(r"^(\d)  ", told, re.MULTILINE)
    lines = told.splitlines()

    assert headings == list("123456")
    assert "\x1b" not in told
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line != line.rstrip()] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("ctrl_c_is_heard")
def test_interrupted_it_leaves_nothing_behind(number: signal.Signals, tmp_path: Path) -> None:
    with started(tmp_path) as process:
        deadline = time.monotonic() + SECONDS_MAX
        while len(family(process)) < 3:  # run, and under it the API and the dispatcher
            assert time.monotonic() < deadline
            time.sleep(0.05)
        children = family(process)
        process.send_signal(number)
        text, _ = process.communicate(timeout=SECONDS_MAX)

    assert process.returncode == 130, text
    assert "nothing is left behind" in text
    assert psutil.wait_procs(children, timeout=10)[1] == []
    assert list(tmp_path.iterdir()) == []


def test_a_service_that_does_not_start_is_told_with_its_last_words(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        with pytest.raises(demo.DemoFailed) as caught:
            demo.tell(Console(), tmp_path, port)

    assert "the service ended with exit code 1" in str(caught.value)
    assert f"127.0.0.1:{port} already" in str(caught.value)
