"""The API alone."""

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
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        http="h11",  # it bounds headers, which httptools takes at any length
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    return 0
