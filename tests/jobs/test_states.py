from itertools import product

import pytest

from app.jobs.states import MOVES, JobState, allowed_actions, is_terminal, require_move

ENDS = {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}


def test_a_job_that_has_ended_stays_as_it_is() -> None:
    assert {state for state in JobState if is_terminal(state)} == ENDS
    assert all(allowed_actions(state) == () for state in ENDS)


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
