"""Whether the server was told to stop: an answer that only waits ends then, and holds nobody up."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request

IsStopping = Callable[[], bool]


async def is_stopping(request: Request) -> IsStopping:
    current: IsStopping = request.app.state.is_stopping
    return current


ServerIsStopping = Annotated[IsStopping, Depends(is_stopping)]
