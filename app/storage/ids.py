"""Identifiers that say what they name and sort by age: `ds_`, `job_`, `mdl_`."""

import secrets
import time


def new_id(prefix: str) -> str:
    """The prefix, 48 bits of milliseconds and 64 random bits, in hexadecimal."""
    return f"{prefix}_{time.time_ns() // 1_000_000:012x}{secrets.token_hex(8)}"
