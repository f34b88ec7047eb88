"""Logs as one JSON object a line, so that no text of a caller can forge a record."""

import logging
import sys
from datetime import UTC, datetime

import orjson

EXTRAS = ("request_id", "path", "job_id", "attempt", "worker")


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= {name: getattr(record, name) for name in EXTRAS if hasattr(record, name)}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return orjson.dumps({key: encodable(value) for key, value in entry.items()}).decode()


class PlainFormatter(logging.Formatter):
    """For people at a terminal. What comes from callers is printed as `repr` does."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s  %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        extras = [f"{name}={getattr(record, name)!r}" for name in EXTRAS if hasattr(record, name)]
        return "  ".join([super().formatMessage(record), *extras])


def encodable(value: object) -> object:
    """Text without lone surrogates; orjson refuses them, and a log must never fail."""
    if isinstance(value, int | None):
        return value
    return str(value).encode("utf-8", "backslashreplace").decode()


def configure(level: str) -> None:
    """Sends every record of this process to standard error: JSON, or plain lines to a terminal."""
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter() if sys.stderr.isatty() else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
