"""The storm, and the broken builds that it has to find."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.servers import ROOT
from tests.storm.breakages import BREAKAGES
from tests.storm.failpoints import NAMES

# CI has half an hour for everything; a developer's `dev.py test --all` takes its time.
FAULTS = 200 if os.environ.get("CI") == "true" else 1000
# Which faults meet which jobs depends on the machine: of storms of this size three in four find a
# missing fence, the hardest to find. The first that finds it ends the search.
FAULTS_WHEN_BROKEN, PACE_WHEN_BROKEN, STORMS_MAX = 60, 0.5, 9

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_nothing_is_lost_and_every_bit_is_that_of_an_undisturbed_run(
    database: str, tmp_path: Path
) -> None:
    report = storm(tmp_path, "--faults", str(FAULTS), "--database", database)

    assert report["violations"] == []
    # It has blown: deaths hit jobs that ran, and most of the named places.
    assert report["faults"] >= FAULTS
    assert report["worker_lost"] >= report["deaths"]["worker"] / 2
    assert len(report["failpoints"]) >= len(NAMES) / 2


@pytest.mark.parametrize("breakage", sorted(BREAKAGES))
def test_a_broken_build_is_found_out(breakage: str, tmp_path: Path) -> None:
    broken = ["--faults", str(FAULTS_WHEN_BROKEN), "--pace", str(PACE_WHEN_BROKEN)]
    broken += ["--breakage", breakage]
    reports = (storm(tmp_path, *broken, seed=seed) for seed in range(STORMS_MAX))

    assert any(report["violations"] for report in reports)


def storm(folder: Path, *options: str, seed: int = 1) -> dict[str, Any]:
    """The report of a storm in a process of its own, which is printed for whoever sees it fail."""
    command = [sys.executable, "-m", "tests.storm", "--seed", str(seed), "--folder"]
    done = subprocess.run(
        [*command, str(folder / str(seed)), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    print(done.stdout, done.stderr, sep="\n")
    report: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (1 if report["violations"] else 0)
    return report
