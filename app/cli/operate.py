"""Commands that run the service."""

import os
import signal
import subprocess
import sys
import threading
import time

import typer
import uvicorn

from app.dispatcher import AlreadyRunning
from app.dispatcher import dispatch as dispatch_until
from app.main import create_app
from app.settings import Settings
from app.storage import migrations
from app.storage.database import Database, DatabaseError
from app.telemetry import logs

STOP_SECONDS = 15
READY_POLL_SECONDS = 0.05


def serve(*, with_parent: bool) -> None:
    settings = Settings()
    logs.configure(settings.log_level)
    if with_parent:
        end_with_parent()
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )


def run_dispatcher(*, with_parent: bool) -> int:
    settings = Settings()
    logs.configure(settings.log_level)
    if with_parent:
        end_with_parent()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        dispatch_until(settings, stopping)
    except AlreadyRunning as error:
        typer.echo(str(error), err=True)
        return 1
    return 0


def end_with_parent() -> None:
    """Ends this process when standard input closes, as it does however the parent ends."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def migrate(*, wait_seconds: float) -> None:
    """Retries until the database answers or `wait_seconds` are over."""
    settings = Settings()
    database = Database(settings.resolved_database_url, busy_seconds=settings.database_busy_seconds)
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            migrations.upgrade(database)
        except DatabaseError as error:
            if time.monotonic() > deadline:
                raise
            typer.echo(f"waiting for the database: {type(error).__name__}", err=True)
            time.sleep(1)
        else:
            database.dispose()
            return


def run_everything() -> int:
    """The API and the dispatcher as two processes; when one ends, so does the other."""
    migrate(wait_seconds=0)
    processes = [start("serve"), start("dispatch")]
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    announce(Settings())
    while not stopping.wait(0.2) and all(process.poll() is None for process in processes):
        pass
    asked = stopping.is_set()
    for process in processes:
        process.terminate()
    codes = [process.wait(STOP_SECONDS) for process in processes]
    typer.echo("Stopped.")
    return 0 if asked else next((code for code in codes if code), 1)


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
