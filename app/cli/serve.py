"""The API alone."""

import os
from contextlib import suppress

import uvicorn

from app.cli.parent import end_with_parent
from app.main import create_app
from app.settings import Settings
from app.telemetry import logs


def main(*, with_parent: bool) -> int:
    settings = Settings()
    logs.configure(settings.log_level)
    if with_parent:
        end_with_parent()
    silence_libraries()
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http="h11",  # it bounds headers, which httptools takes at any length
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    server = uvicorn.Server(config)
    app.state.is_stopping = lambda: server.should_exit
    with suppress(KeyboardInterrupt):
        server.run()
    return 0 if server.started else 1


def silence_libraries() -> None:
    """HiGHS prints notes of its own, line after line, to where nobody can tell them from ours.

    Logs go to the standard error.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
