"""The dispatcher alone."""

import signal
import threading

import typer

from app.cli.parent import end_with_parent
from app.dispatcher import AlreadyRunning, dispatch
from app.settings import Settings
from app.telemetry import logs


def main(*, with_parent: bool) -> int:
    settings = Settings()
    logs.configure(settings.log_level)
    if with_parent:
        end_with_parent()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        dispatch(settings, stopping)
    except AlreadyRunning as error:
        typer.echo(str(error), err=True)
        return 1
    return 0
