"""Who is asking. There is one owner until API keys exist."""

from typing import Annotated

from fastapi import Depends

DEFAULT_OWNER = "default"


async def current_owner() -> str:
    return DEFAULT_OWNER


Owner = Annotated[str, Depends(current_owner)]
