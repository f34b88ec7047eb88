"""What every solver is: something prepared once, then stepped one epoch at a time.

`State` holds all that the next epoch reads, so that a state put aside and taken up again gives the
same bits.
"""

from collections.abc import Callable
from typing import NamedTuple

from app.numeric.activations import Array
from app.numeric.layer import Layer
from app.numeric.objective import Objective


class Settings(NamedTuple):
    """What the user chose; None leaves it to the solver, which ignores what it does not have."""

    learning_rate: float | None
    batch_size: int | None
    momentum: float
    seed: int


class State(NamedTuple):
    """After `epoch` passes: the layer, the objective there, and the arrays the solver remembers."""

    epoch: int
    layer: Layer
    cost: float
    memory: tuple[Array, ...]


class Run(NamedTuple):
    """A prepared solver. `epoch` gives the next state and leaves the one it was given unchanged."""

    start: State
    epoch: Callable[[State], State]
    learning_rate: float | None


Prepare = Callable[[Objective, Settings], Run]
