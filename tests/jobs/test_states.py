from itertools import product

import pytest

from app.jobs.states import (
    MOVES,
    Action,
    JobState,
    allowed_actions,
    is_so,
    is_terminal,
    require_move,
)

ENDS = {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}


def test_a_job_that_has_ended_stays_as_it_is() -> None:
    assert {state for state in JobState if is_terminal(state)} == ENDS
    assert all(allowed_actions(state, None, has_checkpoint=True) == () for state in ENDS)


def test_every_state_leads_to_an_end() -> None:
    reached = set(ENDS)
    for _ in JobState:
        reached |= {state for state, targets in MOVES.items() if targets & reached}

    assert reached == set(JobState)


@pytest.mark.parametrize(("state", "to"), list(product(JobState, JobState)))
def test_a_move_that_is_not_on_the_page_is_a_bug(state: JobState, to: JobState) -> None:
    if to in MOVES[state]:
        require_move(state, to)
    else:
        with pytest.raises(RuntimeError):
            require_move(state, to)


@pytest.mark.parametrize(
    ("state", "wanted", "has_checkpoint"),
    list(product(sorted(set(JobState) - ENDS), [None, *Action], [False, True])),
)
def test_no_action_is_offered_that_is_so_already(
    state: JobState, wanted: Action | None, has_checkpoint: bool
) -> None:
    offered = allowed_actions(state, wanted, has_checkpoint=has_checkpoint)

    assert not any(is_so(state, wanted, action) for action in offered)
    assert (Action.CANCEL in offered) == (wanted is not Action.CANCEL)


def test_a_job_without_anything_to_keep_is_not_offered_to_be_stopped() -> None:
    assert Action.STOP not in allowed_actions(JobState.QUEUED, None, has_checkpoint=False)
    assert Action.STOP in allowed_actions(JobState.PAUSED, None, has_checkpoint=True)
