"""Text that callers may give: identifiers, and names meant for people."""

import unicodedata
from typing import Annotated

from fastapi import Path
from pydantic import AfterValidator, Field

ID_PATTERN = r"^[A-Za-z0-9_-]+$"
NAME_LENGTH_MAX = 200

Id = Annotated[str, Path(max_length=40, pattern=ID_PATTERN)]


def printable(value: str) -> str:
    """The text in normal form. Raises ValueError for what no screen or log should be given."""
    normal = unicodedata.normalize("NFC", value)
    # Control, surrogate, line and paragraph separators; and the marks that reverse reading order.
    if any(unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} for c in normal) or any(
        unicodedata.bidirectional(c) in {"LRE", "RLE", "LRO", "RLO", "LRI", "RLI", "FSI"}
        for c in normal
    ):
        raise ValueError("control characters are not allowed in a name")
    if not normal.strip():
        raise ValueError("a name needs a character that can be seen")
    # The normal form of one character can be three, and the database counts these.
    if len(normal) > NAME_LENGTH_MAX:
        raise ValueError(f"in Unicode's NFC form it has more than {NAME_LENGTH_MAX} characters")
    return normal


DisplayName = Annotated[
    str, Field(min_length=1, max_length=NAME_LENGTH_MAX), AfterValidator(printable)
]
