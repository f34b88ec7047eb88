"""A setting that cannot be is told in a sentence, by name."""

import os
import subprocess
import sys

import pytest
from pydantic import ValidationError

from app.settings import Settings
from tests.servers import ROOT


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("BACKSOLVE_PORT", "eighty", "valid integer"),
        ("BACKSOLVE_WORKERS", "0", "greater than 0"),
        ("BACKSOLVE_STORAGE_URL", "gs://bucket", "gs:// is not supported"),
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


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("storage_url", "s3:///prefix", "needs a bucket"),
        ("storage_url", "s3://key:secret@bucket", "AWS_ACCESS_KEY_ID"),
        ("storage_url", "s3://bucket?secret=1", "secret is not one of"),
        ("scheduler_address", "scheduler:8786", "tcp://host:8786"),
        ("scheduler_address", "tcp://scheduler:eighty", "tcp://host:8786"),
    ],
)
def test_a_place_that_cannot_be_is_refused_with_the_reason(
    name: str, value: str, part: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate({name: value})

    assert part in str(refused.value)


def test_tls_in_an_address_needs_certificates() -> None:
    with pytest.raises(ValidationError, match="tls:// in BACKSOLVE_SCHEDULER_ADDRESS needs it"):
        Settings(scheduler_address="tls://scheduler:8786")


def test_with_certificates_no_address_is_plain() -> None:
    for scheme in ("tcp", "tls"):
        settings = Settings(scheduler_address=f"{scheme}://scheduler:8786", tls_dir="certificates")

        assert settings.resolved_scheduler_address == "tls://scheduler:8786"
