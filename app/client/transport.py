"""HTTP and nothing else: sending, retrying, errors as exceptions. Only this module calls httpx."""

import json
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import IO, Any, TypeVar
from urllib.parse import quote

import httpx
import numpy as np

from . import errors
from .errors import APIError, Fault, TimedOut, Unavailable, UnexpectedAnswer

T = TypeVar("T")
Content = bytes | IO[bytes]

RETRIES_MAX = 2
BACKOFF_SECONDS = 0.5
# A service that asks for more patience than this is reported instead of waited for.
RETRY_AFTER_SECONDS_MAX = 30.0
PAGE_ITEMS = 100
EVENT_STREAM = "text/event-stream"
# The service breaks its silence every 15 seconds.
SILENCE_SECONDS_MAX = 60.0
# What reading an answer of another shape raises.
MISUNDERSTOOD = (ValueError, TypeError, KeyError, AttributeError)
TEXT_SHOWN_MAX = 200

ERRORS: Mapping[int, type[APIError]] = {
    400: errors.BadRequest,
    404: errors.NotFound,
    409: errors.Conflict,
    413: errors.TooLarge,
    415: errors.UnsupportedMediaType,
    422: errors.Invalid,
}


class Transport:
    """One service at one address. `read` turns the JSON of an answer into a result."""

    def __init__(
        self, base_url: str, *, timeout_seconds: float, transport: httpx.BaseTransport | None
    ) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url must begin with http:// or https://, not {base_url!r}")
        self.base_url = base_url
        self.timeout_seconds = timeout_seconds
        self._http = httpx.Client(
            base_url=base_url,
            timeout=timeout_seconds,
            transport=transport,
            headers={"User-Agent": "backsolve-python", "Accept": "application/json"},
        )

    def close(self) -> None:
        self._http.close()

    def get(
        self,
        path: str,
        *,
        read: Callable[[Any], T],
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        retries_max: int = RETRIES_MAX,
        timeout_seconds: float | None = None,
    ) -> T:
        """Asks again if nobody answers or the service is not ready, but not after a timeout."""
        response = tried(
            lambda: self._send(
                "GET", path, params=params, headers=headers, timeout_seconds=timeout_seconds
            ),
            retries_max=retries_max,
        )
        return understood(response, read)

    def post(
        self,
        path: str,
        *,
        read: Callable[[Any], T],
        content: Content = b"",
        media_type: str = "application/json",
        params: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> T:
        """Sent once: without an answer nobody knows whether it was done.

        With a key it does not matter, and it is sent again as a GET is.
        """
        headers = {"Content-Type": media_type}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key

        def send() -> httpx.Response:
            if not isinstance(content, bytes):
                content.seek(0)
            return self._send("POST", path, params=params, content=content, headers=headers)

        retries_max = 0 if idempotency_key is None else RETRIES_MAX
        return understood(tried(send, retries_max=retries_max), read)

    def delete(self, path: str) -> None:
        self._send("DELETE", path)

    def pages(self, path: str, *, read: Callable[[Any], T], **params: Any) -> Iterator[T]:
        """Every item of a list, a page asked for when it is needed."""
        cursor: str | None = None
        while True:
            query = {"limit": PAGE_ITEMS, "cursor": cursor, **params}
            items, cursor = self.get(
                path,
                read=lambda page: ([read(item) for item in page["items"]], page["next_cursor"]),
                params=query,
            )
            yield from items
            if cursor is None:
                return

    @contextmanager
    def streamed(self, path: str, *, last_event_id: str | None) -> Iterator[Iterator[str] | None]:
        """The lines of an event stream as they come, or None if it says that none will."""
        headers = {"Accept": EVENT_STREAM, "Cache-Control": "no-store"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        usual = self._http.timeout
        timeout = httpx.Timeout(
            connect=usual.connect, write=usual.write, pool=usual.pool, read=SILENCE_SECONDS_MAX
        )
        with (
            self._errors_told("GET", path),
            self._http.stream("GET", path, headers=headers, timeout=timeout) as response,
        ):
            if not response.is_success:
                response.read()
                raise error_of(response)
            kind = response.headers.get("Content-Type", "")
            if response.status_code != 204 and not kind.startswith(EVENT_STREAM):
                raise UnexpectedAnswer(f"The answer to GET {path} is {kind!r}, not {EVENT_STREAM}.")
            yield None if response.status_code == 204 else lines_of(response.iter_bytes())

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        content: Content | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
    ) -> httpx.Response:
        """Raises APIError, Unavailable or TimedOut for anything but a 2xx."""
        given = {name: value for name, value in (params or {}).items() if value is not None}
        timeout = httpx.USE_CLIENT_DEFAULT if timeout_seconds is None else timeout_seconds
        with self._errors_told(method, path):
            response = self._http.request(
                method, path, params=given, content=content, headers=headers, timeout=timeout
            )
        if not response.is_success:
            raise error_of(response)
        return response

    @contextmanager
    def _errors_told(self, method: str, path: str) -> Iterator[None]:
        """What httpx raises, as Unavailable or TimedOut."""
        try:
            yield
        except httpx.ConnectTimeout as error:
            raise Unavailable(f"{self.base_url} cannot be reached in time.") from error
        except httpx.TimeoutException as error:
            raise TimedOut(f"No answer to {method} {path} in time.") from error
        except httpx.RequestError as error:
            raise Unavailable(f"{self.base_url} cannot be reached: {error}") from error


def tried(send: Callable[[], httpx.Response], *, retries_max: int) -> httpx.Response:
    """The answer. Sent again where nobody could be reached, but not after a timeout."""
    attempt = 0
    while True:
        try:
            return send()
        except Unavailable as error:
            pause = pause_seconds(attempt, error.retry_after_seconds)
            hopeless = isinstance(error, TimedOut) or pause > RETRY_AFTER_SECONDS_MAX
            if hopeless or attempt >= retries_max:
                raise
            time.sleep(pause)
            attempt += 1


def lines_of(chunks: Iterable[bytes]) -> Iterator[str]:
    """Whole lines; httpx's own would end them at any of Unicode's line ends, inside of texts."""
    kept = b""
    for chunk in chunks:
        *lines, kept = (kept + chunk).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r").decode(errors="replace")


def path_of(*parts: str) -> str:
    """The path of these parts, none of which can climb out of its place."""
    if not all(parts):
        raise ValueError("an id must not be empty")
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


def understood(response: httpx.Response, read: Callable[[Any], T]) -> T:
    """The result. Raises UnexpectedAnswer for JSON that `read` can make nothing of."""
    try:
        return read(json.loads(response.content))
    except MISUNDERSTOOD as error:
        place = f"{response.request.method} {response.request.url}"
        raise UnexpectedAnswer(f"The answer to {place} is not understood: {error!r}") from error


def error_of(response: httpx.Response) -> APIError | Unavailable:
    """The exception for an answer that is not 2xx, whether or not the service itself wrote it."""
    status = response.status_code
    problem = problem_of(response)
    detail = str(problem.get("detail") or f"HTTP {status}: {response.text[:TEXT_SHOWN_MAX]}")
    if status in (502, 503, 504):
        return Unavailable(detail, retry_after_seconds(response.headers.get("Retry-After")))
    kind = ERRORS.get(status, errors.ServerError if status >= 500 else APIError)
    return kind(
        status,
        str(problem.get("code") or f"http_{status}"),
        detail,
        str(problem.get("request_id") or response.headers.get("X-Request-ID", "")),
        faults_of(problem.get("errors")),
    )


def problem_of(response: httpx.Response) -> dict[str, Any]:
    """The problem details of RFC 9457; empty if somebody in between wrote the answer."""
    try:
        problem = json.loads(response.content)
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}


def faults_of(items: Any) -> tuple[Fault, ...]:
    if not isinstance(items, list):
        return ()
    return tuple(
        Fault(str(item.get("detail")), item.get("pointer"), item.get("row"), item.get("column"))
        for item in items
        if isinstance(item, dict)
    )


def retry_after_seconds(header: str | None) -> float | None:
    """Retry-After is a number of seconds or a date; None if it is neither."""
    if not header:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def pause_seconds(attempt: int, asked_seconds: float | None) -> float:
    """What was asked for, or 0.5 s, 1 s, ...; up to half as much is added, to spread callers."""
    pause = BACKOFF_SECONDS * 2**attempt if asked_seconds is None else asked_seconds
    return pause * random.uniform(1.0, 1.5)  # noqa: S311 - nothing secret


def json_of(value: Any) -> bytes:
    """JSON, also of numpy's arrays and numbers; nan is null. Raises ValueError for an infinity."""
    try:
        return json.dumps(value, default=plain, allow_nan=False).encode()
    except ValueError:
        return json.dumps(without_nan(value), default=plain, allow_nan=False).encode()


def plain(value: Any) -> Any:
    """A value that JSON knows, for one of numpy or pandas, or anything that can be walked."""
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "__array__"):
        return np.asarray(value).tolist()
    if isinstance(value, Iterable):
        return list(value)
    raise TypeError(f"{type(value).__name__} cannot be sent as JSON")


def without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, str | bytes | int | bool | None):
        return value
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return without_nan(plain(value))
