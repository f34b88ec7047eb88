"""The dispatcher alone."""

import typer

from app.cli.parent import end_with_parent, stopping_on_signals
from app.dispatcher import dispatch
from app.settings import Settings
from app.storage.sole import AlreadyHeld
from app.telemetry import logs


def main(*, with_parent: bool) -> int:
    settings = Settings()
    logs.configure(settings.log_level)
    if with_parent:
        end_with_parent()
    try:
        dispatch(settings, stopping_on_signals())
    except AlreadyHeld as error:
        typer.echo(str(error), err=True)
        return 1
    return 0
