"""Lists, newest first, a page at a time."""

from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

from fastapi import Query
from pydantic import BaseModel

from app.api.names import ID_PATTERN

Item = TypeVar("Item")
Row = TypeVar("Row")

Limit = Annotated[int, Query(ge=1, le=100, description="Most items in one page.")]
Cursor = Annotated[
    str | None,
    Query(
        max_length=40,
        pattern=ID_PATTERN,
        description="`next_cursor` of the page before, to get the one after it.",
    ),
]


class Page(BaseModel, frozen=True):
    """What every list answers with; `next_cursor` is null on the last page."""

    next_cursor: str | None


def page(
    rows: Sequence[Row], limit: int, out: Callable[[Row], Item], id_of: Callable[[Row], str]
) -> tuple[list[Item], str | None]:
    """The items and the cursor, from rows fetched with one more than `limit`."""
    shown = rows[:limit]
    return [out(row) for row in shown], id_of(shown[-1]) if len(rows) > limit else None
