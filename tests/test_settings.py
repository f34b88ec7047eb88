"""A setting that cannot be is told in a sentence, by name."""

import os
import subprocess
import sys

import pytest

from tests.servers import ROOT


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("BACKSOLVE_PORT", "eighty", "valid integer"),
        ("BACKSOLVE_WORKERS", "0", "greater than 0"),
        ("BACKSOLVE_STORAGE_URL", "s3://bucket", "only a folder"),
    ],
)
def test_a_setting_that_cannot_be_is_named_and_nothing_starts(
    name: str, value: str, part: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app", "serve"],
        cwd=ROOT,
        env=os.environ | {name: value},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert done.stderr.startswith(f"{name}: ")
    assert part in done.stderr
    assert "Traceback" not in done.stderr
