"""JSON text with one meaning: no NaN, no lone surrogates, no depth bombs, no repeated keys."""

import json
import re
from typing import Any

import orjson

from app.errors import MalformedJson

# The end counts as a closing quote: an open string is then skipped once, not tried at every quote.
STRING = re.compile(rb'"(?:[^"\\]++|\\.?)*+"?', re.DOTALL)
SHOWN_MAX = 80


def read_json(body: bytes) -> Any:
    """Raises MalformedJson with the line and column of the first mistake."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        refuse_other_encodings(body)
        raise MalformedJson(
            f"Line {error.lineno}, column {error.colno}: {error.msg.partition(': line ')[0]}."
        ) from None


def refuse_other_encodings(body: bytes) -> None:
    """Raises MalformedJson with the place of the first byte that is not UTF-8."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        column = error.start - body.rfind(b"\n", 0, error.start)
        raise MalformedJson(f"Line {line}, column {column}: this byte is not UTF-8.") from None


def count(body: bytes, *characters: bytes) -> int:
    """How often these characters stand in the body, without those inside strings."""
    bare = STRING.sub(b"", body)
    return sum(map(bare.count, characters))


def refuse_repeated_keys(body: bytes, *, pairs: int) -> None:
    """Raises MalformedJson if more than the `pairs` of name and value that were read were sent.

    Readers keep the last of two values under one name and say nothing.
    """
    if body.count(b":") > pairs and count(body, b":") > pairs:
        raise MalformedJson(f"{repeated_key(body)} is repeated in one object. Name it once.")


def repeated_key(body: bytes) -> str:
    repeated = ["A key"]

    def note_repeated(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                repeated.append(f"The key {key[:SHOWN_MAX]!r}")
            seen.add(key)

    try:
        json.loads(body, object_pairs_hook=note_repeated, parse_int=float)
    except RecursionError:
        # A dropped value may be nested deeper than the standard library follows.
        return repeated[-1]
    return repeated[-1]


def pairs_in(document: Any) -> int:
    """The number of names and values in a document, at every depth."""
    found = 0
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            found += len(value)
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return found
