"""What every solver is: something prepared once, then stepped.

`State` holds all that the next step reads, so that a state put aside and taken up again, in another
process too, gives the same bits. A step leaves the state that it was given unchanged.
"""

from collections.abc import Callable
from typing import NamedTuple

from app.numeric.activations import Array
from app.numeric.objective import Objective


class Schedule(NamedTuple):
    """How the learning rate goes on from its first value; see schedules.SCHEDULES for the names.

    `warm_up_epochs` come first, in which it rises linearly from 0. `step` multiplies it by `factor`
    every `every_epochs`.
    """

    name: str = "constant"
    warm_up_epochs: int = 0
    every_epochs: int = 10
    factor: float = 0.5


class Settings(NamedTuple):
    """What the user chose; None leaves it to the solver, which ignores what it does not have.

    `tolerance`: converged when the cost is expected to fall by less than this share of itself.
    `clip_norm` shortens a slope that is longer (Euclidean norm over w and b).
    """

    learning_rate: float | None = None
    batch_size: int | None = None
    momentum: float = 0.9
    tolerance: float = 1e-8
    epochs: int = 500
    schedule: Schedule = Schedule()
    clip_norm: float | None = None
    seed: int = 0


class State(NamedTuple):
    """After `epoch` passes and `batch` batches of the next: P (m, n + 1) and what goes with it.

    `cost` is the objective at `parameters`; within an epoch (batch > 0) that of its beginning.
    `converged`: the solver knows that it has arrived. `memory`: arrays that the solver remembers.
    """

    epoch: int
    batch: int
    parameters: Array
    cost: float
    converged: bool
    memory: tuple[Array, ...]


class Run(NamedTuple):
    """A prepared solver. `step` ends an epoch, or some batches of one."""

    start: State
    step: Callable[[State], State]
    learning_rate: float | None


Prepare = Callable[[Objective, Settings], Run]
