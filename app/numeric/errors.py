"""What the numeric core refuses, and why.

    NumericError (ValueError)
    |-- ShapeError        arrays that do not fit together
    `-- OutOfRange        a target that the activation cannot give

Outcomes (diverged, infeasible) are values in results, never exceptions. The arguments stay in
`args`, so that an error survives the way back from a worker process.
"""


class NumericError(ValueError):
    """A request that the numeric core cannot compute."""


class ShapeError(NumericError):
    """Arrays whose shapes do not fit together."""


class OutOfRange(NumericError):
    """A target that lies outside the values that the activation takes."""

    def __init__(self, output: int, value: float, low: float, high: float) -> None:
        super().__init__(output, value, low, high)
        self.output = output
        self.value = value
        self.low = low
        self.high = high

    def __str__(self) -> str:
        return (
            f"target {self.value!r} of output {self.output} is out of range: "
            f"it must lie between {self.low:g} and {self.high:g}, and may touch an end only "
            "where the activation and the cost allow it"
        )
