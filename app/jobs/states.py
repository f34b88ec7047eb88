"""The states of a job, every move between them, and what a caller may ask for in each.

queued --claim--> running --finish--> succeeded | failed | cancelled
queued | paused --cancel--> cancelled
queued --pause--> paused --resume--> queued
running --pause--> paused, with a checkpoint
paused --stop--> queued, to be ended with what there is
running --worker lost--> queued, or failed after too many deaths
running --given back--> queued
"""

from collections.abc import Mapping
from enum import StrEnum


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Action(StrEnum):
    """What a caller may ask for. CANCEL drops the work, STOP keeps the model of what is done."""

    CANCEL = "cancel"
    STOP = "stop"
    PAUSE = "pause"
    RESUME = "resume"


MOVES: Mapping[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED, JobState.PAUSED}),
    JobState.RUNNING: frozenset(
        {
            JobState.SUCCEEDED,
            JobState.FAILED,
            JobState.CANCELLED,
            JobState.QUEUED,
            JobState.PAUSED,
        }
    ),
    JobState.PAUSED: frozenset({JobState.QUEUED, JobState.CANCELLED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}


def is_terminal(state: JobState) -> bool:
    return not MOVES[state]


def allowed_actions(
    state: JobState, wanted: Action | None, *, has_checkpoint: bool
) -> tuple[Action, ...]:
    """What may be asked for now, and is not so already.

    `wanted` is what was asked of a running job and has not happened yet. A cancel can no longer be
    taken back, and a stop only be made a cancel. Without a checkpoint, a job that is not running
    has nothing to keep.
    """
    if is_terminal(state) or wanted is Action.CANCEL:
        return ()
    if wanted is Action.STOP:
        return (Action.CANCEL,)
    stop = (Action.STOP,) if state is JobState.RUNNING or has_checkpoint else ()
    waits = state is JobState.PAUSED or wanted is Action.PAUSE
    return (Action.CANCEL, *stop, Action.RESUME if waits else Action.PAUSE)


def is_so(state: JobState, wanted: Action | None, action: Action) -> bool:
    """Whether a job that has not ended is, or is about to be, what the action asks for."""
    if action is Action.RESUME:
        return wanted is None and state in (JobState.QUEUED, JobState.RUNNING)
    return wanted is action or (action is Action.PAUSE and state is JobState.PAUSED)


def require_move(state: JobState, to: JobState) -> None:
    """Raises RuntimeError for a move that is not on the page: only a bug asks for one."""
    if to not in MOVES[state]:
        raise RuntimeError(f"a job cannot go from {state} to {to}")
