"""The states of a job, and every move between them.

queued --claim--> running --finish--> succeeded | failed | cancelled
queued --cancel--> cancelled
running --worker lost--> queued, or failed after too many deaths
running --given back--> queued
"""

from collections.abc import Mapping
from enum import StrEnum


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


MOVES: Mapping[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED}),
    JobState.RUNNING: frozenset(
        {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.QUEUED}
    ),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}
ACTIONS: Mapping[JobState, tuple[str, ...]] = {
    JobState.QUEUED: ("cancel",),
    JobState.RUNNING: ("cancel",),
}


def is_terminal(state: JobState) -> bool:
    return not MOVES[state]


def allowed_actions(state: JobState) -> tuple[str, ...]:
    return ACTIONS.get(state, ())


def require_move(state: JobState, to: JobState) -> None:
    """Raises RuntimeError for a move that is not on the page: only a bug asks for one."""
    if to not in MOVES[state]:
        raise RuntimeError(f"a job cannot go from {state} to {to}")
