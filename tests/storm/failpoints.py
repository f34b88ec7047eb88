"""Deaths at named places: just before and just after the commit of each step of a job's life."""

import os
import random
import signal
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from sqlalchemy import event

from app.jobs import lifecycle, service
from app.storage.database import Session

# How often a process dies at each side of the commit of each step. Beats are the most frequent.
WORKER_STEPS = {"claim": 0.03, "beat": 0.005, "save": 0.06, "finish": 0.06, "release": 0.06}
API_STEPS = {"create": 0.02, "act": 0.02}
NAMES = tuple(
    f"{step}_{side}_commit" for step in (*WORKER_STEPS, *API_STEPS) for side in ("before", "after")
)
PROBABILITIES = WORKER_STEPS | API_STEPS
STEP = "step"


class Failpoints:
    """Kills this process at some of its commits, while `calm` does not exist.

    The names of the places where it died are lines of the file `hits`.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.calm, self.hits = folder / "calm", folder / "failpoints"
        self.random = random.Random(seed)

    def install(self) -> None:
        for module, steps in ((lifecycle, WORKER_STEPS), (service, API_STEPS)):
            for step in steps:
                setattr(module, step, marking(step, getattr(module, step)))
        event.listen(Session, "before_commit", lambda session: self.reach(session, "before"))
        event.listen(Session, "after_commit", lambda session: self.reach(session, "after"))

    def reach(self, session: Session, side: str) -> None:
        step = session.info.get(STEP)
        if step is None or self.random.random() >= PROBABILITIES[step] or self.calm.exists():
            return
        with self.hits.open("a") as file:
            file.write(f"{step}_{side}_commit\n")
        os.kill(os.getpid(), signal.SIGKILL)


def marking(step: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which leaves its name with the transaction that it is a part of."""

    @wraps(function)
    def marked(session: Session, *arguments: Any, **named: Any) -> Any:
        session.info[STEP] = step
        return function(session, *arguments, **named)

    return marked
