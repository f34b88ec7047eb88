"""What the numeric core refuses, and why.

    NumericError (ValueError)
    |-- ShapeError        arrays that do not fit together
    |-- NotInvertible     exact inversion of an activation that is not strictly monotone
    |-- OutOfRange        a target that the activation cannot give
    `-- LimitsConflict    a lower limit above its upper limit

Outcomes (diverged, infeasible) are values in results, never exceptions. The arguments stay in
`args`, so that an error survives the way back from a worker process.
"""


class NumericError(ValueError):
    """A request that the numeric core cannot compute."""


class ShapeError(NumericError):
    """Arrays whose shapes do not fit together."""


class NotInvertible(NumericError):
    """Exact inversion was asked of an activation that is not strictly monotone."""

    def __init__(self, activation: str) -> None:
        super().__init__(activation)
        self.activation = activation

    def __str__(self) -> str:
        return (
            f"activation {self.activation} is not strictly monotone, so it has no exact inverse; "
            "use the gradient method"
        )


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


class LimitsConflict(NumericError):
    """A feature whose lower limit is above its upper limit, or not a number."""

    def __init__(self, feature: int, low: float, high: float) -> None:
        super().__init__(feature, low, high)
        self.feature = feature
        self.low = low
        self.high = high

    def __str__(self) -> str:
        return f"limits of feature {self.feature} conflict: low {self.low!r}, high {self.high!r}"
