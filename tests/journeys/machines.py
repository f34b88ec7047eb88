"""Processes that share a database, a scheduler and an object store, and no folder."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import httpx

from tests.servers import ROOT, free_port

START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 30


class Machines:
    """Each process has a data folder of its own; all are killed at the end."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.api_port = free_port()
        self.scheduler_port, self.health_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.api_port}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if "BACKSOLVE" not in name},
            "BACKSOLVE_SCHEDULER_ADDRESS": f"tcp://127.0.0.1:{self.scheduler_port}",
            "BACKSOLVE_PORT": str(self.api_port),
            **environment,
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait()

    def start(self, name: str, *words: str) -> subprocess.Popen[bytes]:
        """`python -m app WORDS` on a machine called `name`, anew if it ran before."""
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "app", *words],
                cwd=ROOT,
                env=self.environment | {"BACKSOLVE_DATA_DIR": str(self.folder / name)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.processes[name] = process
        return process

    def start_scheduler(self) -> None:
        self.start("scheduler", "scheduler", f"--health-port={self.health_port}")
        self.until(lambda: answers(f"http://127.0.0.1:{self.health_port}/health"))

    def start_all(self, *, workers: int = 2) -> None:
        self.start("api", "serve")
        self.start_scheduler()
        for number in range(workers):
            self.start(f"worker{number}", "worker")
        self.start("dispatcher", "dispatch")
        self.until(lambda: answers(f"{self.url}/readyz"))

    def kill(self, name: str) -> None:
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait()

    def stop(self, name: str) -> int:
        self.processes[name].terminate()
        return self.processes[name].wait(STOP_SECONDS_MAX)

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS_MAX
        while not holds():
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.05)

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def logs(self) -> str:
        return "\n".join(f"{name}:\n{self.log(name).read_text()}" for name in self.processes)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False
