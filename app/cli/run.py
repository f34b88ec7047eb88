"""Everything on one machine: the API and the dispatcher as two processes."""

import errno
import socket
import subprocess
import sys

import typer

from app.cli import migrate
from app.cli.parent import end_with_parent, stopping_on_signals
from app.settings import Settings

STOP_SECONDS = 15
LOOK_SECONDS = 0.2


def main(*, with_parent: bool) -> int:
    """When one of the two ends, so does the other."""
    settings = Settings()
    if with_parent:
        end_with_parent()
    if is_taken(settings.host, settings.port):
        typer.echo(
            f"Something else listens on {settings.host}:{settings.port} already. "
            "Stop it, or set BACKSOLVE_PORT to another port.",
            err=True,
        )
        return 1
    migrate.main(wait_seconds=0)
    processes = [start("serve"), start("dispatch")]
    stopping = stopping_on_signals()
    announce(settings)
    while not stopping.wait(LOOK_SECONDS) and all(process.poll() is None for process in processes):
        pass
    asked = stopping.is_set()
    for process in processes:
        process.terminate()
    codes = [ended(process) for process in processes]
    typer.echo("Stopped.")
    return 0 if asked else next((code for code in codes if code), 1)


def ended(process: subprocess.Popen[bytes]) -> int:
    """Its exit code; a process that does not end by itself is ended."""
    try:
        return process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def is_taken(host: str, port: int) -> bool:
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False


def start(command: str) -> subprocess.Popen[bytes]:
    """In a session of its own, so that Ctrl-C reaches it only through us, and in good order."""
    return subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "app", command, "--with-parent"],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )


def announce(settings: Settings) -> None:
    url = f"http://{settings.host}:{settings.port}"
    typer.echo(
        f"Backsolve is starting on {url}\n"
        f"  the API, as OpenAPI   {url}/openapi.json\n"
        f"  is it ready?          {url}/readyz\n"
        f"  data                  {settings.data_dir.resolve()}\n"
        "Ctrl-C stops it."
    )
