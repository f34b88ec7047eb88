"""Routes whose JSON body is read strictly, and before FastAPI sees it.

FastAPI's own reading accepts NaN, lone surrogates, depth bombs and bodies of any size, and some of
them crash it later.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from app.api.json_text import count, pairs_in, read_json, refuse_repeated_keys
from app.api.limits import media_type, read_body
from app.errors import BodyTooLarge, UnsupportedMediaType

# A document may say this much about each column, and this much besides.
VALUES_PER_COLUMN = 4
VALUES_BESIDES = 4000


class JsonRequest(Request):
    """A request whose body has been read and parsed already."""

    def __init__(self, request: Request, body: bytes, *, values_max: int) -> None:
        super().__init__(request.scope, request.receive)
        self._body = body
        self._json = read_document(body, values_max=values_max)


class JsonRoute(APIRoute):
    """A route whose body, if it declares one, is JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def handle_strictly(request: Request) -> Response:
            require_json(request)
            # Read here and not on demand: FastAPI would turn our errors into a bare 400.
            settings = request.app.state.settings
            body = await read_body(request, bytes_max=settings.json_bytes_max)
            values_max = VALUES_PER_COLUMN * settings.columns_max + VALUES_BESIDES
            return await handle(JsonRequest(request, body, values_max=values_max))

        return handle_strictly


def require_json(request: Request) -> None:
    """Raises UnsupportedMediaType unless the body says that it is JSON."""
    if media_type(request) != "application/json":
        raise UnsupportedMediaType("Send JSON, with the header Content-Type: application/json.")


def read_document(body: bytes, *, values_max: int) -> Any:
    """Raises MalformedJson, or BodyTooLarge for more than about `values_max` values.

    Validation makes an error of each wrong value, at 20 microseconds, with the event loop waiting.
    """
    if body.count(b",") > values_max and count(body, b",") > values_max:
        raise BodyTooLarge(f"The body may hold at most {values_max:,} values here.")
    document = read_json(body)
    refuse_repeated_keys(body, pairs=pairs_in(document))
    return document
