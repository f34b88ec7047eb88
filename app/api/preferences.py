"""What a caller would like, by the header Prefer (RFC 7240), and is told of if it was done."""

import re
from collections.abc import Sequence
from typing import Annotated
from urllib.request import parse_http_list

from fastapi import Header

WAIT = re.compile(r'wait\s*=\s*"?(\d{1,9})"?\s*(;.*)?', re.IGNORECASE)
LENGTH_MAX = 1000

Prefer = Annotated[
    list[str] | None,
    Header(
        alias="Prefer",
        description="`wait=10` (RFC 7240): answer when the job has ended, after at most so many "
        "seconds. A preference that is not understood is ignored.",
    ),
]


def wait_seconds(prefer: Sequence[str] | None, *, seconds_max: int) -> int | None:
    """How long to wait; None without the preference, or with one that says nothing."""
    text = ", ".join(prefer or ())
    if len(text) > LENGTH_MAX:
        return None
    for preference in parse_http_list(text):
        name = re.split(r"[=;]", preference, maxsplit=1)[0].strip().lower()
        if name == "wait":
            found = WAIT.fullmatch(preference.strip())
            return None if found is None else min(int(found[1]), seconds_max)
    return None


def applied(seconds: int) -> dict[str, str]:
    return {"Preference-Applied": f"wait={seconds}"}
