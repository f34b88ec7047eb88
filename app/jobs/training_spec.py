"""What was asked of a training job, and what that came to: as JSON, on the wire and in the row."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from app.api.names import ID_PATTERN, DisplayName
from app.numeric.activations import ACTIVATIONS
from app.numeric.costs import COSTS
from app.numeric.preprocessing import MISSING_POLICIES, UNKNOWN_LEVEL_POLICIES
from app.numeric.scaling import SCALINGS
from app.numeric.schedules import SCHEDULES
from app.numeric.solvers import SOLVERS
from app.numeric.split import METHODS


def one_of(names: Iterable[str]) -> tuple[AfterValidator, WithJsonSchema]:
    """Restricts a string to the rows of a table, in validation and in the schema alike."""
    known = tuple(names)

    def check(value: str) -> str:
        if value not in known:
            raise ValueError(f"{value[:40]!r} is not known here; it must be one of {known}")
        return value

    return AfterValidator(check), WithJsonSchema({"type": "string", "enum": list(known)})


ActivationName = Annotated[str, *one_of(("auto", *ACTIVATIONS))]
CostName = Annotated[str, *one_of(("auto", *COSTS))]
SolverName = Annotated[str, *one_of(("auto", *SOLVERS))]
ScheduleName = Annotated[str, *one_of(SCHEDULES)]
ScalingName = Annotated[str, *one_of(SCALINGS)]
TargetScalingName = ScalingName
MissingPolicy = Annotated[str, *one_of(MISSING_POLICIES)]
UnknownLevelPolicy = Annotated[str, *one_of(UNKNOWN_LEVEL_POLICIES)]
SplitMethod = Annotated[str, *one_of(METHODS)]
ColumnName = Annotated[str, Field(min_length=1, max_length=200)]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class ScheduleSpec(Part):
    """How the learning rate changes over the epochs."""

    name: ScheduleName = "constant"
    warm_up_epochs: int = Field(0, ge=0, le=1_000_000, description="It rises from 0 in these.")
    every_epochs: int = Field(10, ge=1, le=1_000_000, description="Of `step`.")
    factor: float = Field(0.5, gt=0, le=1, description="Of `step`.")


class SolverSpec(Part):
    name: SolverName = "auto"
    learning_rate: Literal["auto"] | Annotated[float, Field(gt=0)] = Field(
        "auto", description="`auto` takes it from a bound on the curvature of the mean cost."
    )
    batch_size: Literal["auto", "full"] | Annotated[int, Field(ge=1)] = Field(
        "auto", description="Rows a step; `auto` and `full` are all of them."
    )
    momentum: Literal["auto"] | Annotated[float, Field(ge=0, lt=1)] = Field(
        "auto", description="Of `momentum`, `nesterov` and `adam`; `auto` is 0.9."
    )
    schedule: ScheduleSpec | None = None
    clip_norm: Annotated[float, Field(gt=0)] | None = Field(
        None, description="A longer slope is shortened to this Euclidean norm."
    )
    epochs: int = Field(500, ge=1, le=1_000_000)
    tolerance: float = Field(
        1e-8, ge=0, description="Stop when the cost falls by less than this share in an epoch."
    )


class RegularizationSpec(Part):
    l2: Literal["auto"] | Annotated[float, Field(ge=0)] = Field(
        "auto",
        description="Adds l2/2 |w|^2 to the mean cost; b is left alone. `auto` is 1 / training "
        "rows for cross_entropy without l1, scikit-learn's C=1, and 0 for other costs.",
    )
    l1: float = Field(0.0, ge=0, description="Adds l1 |w|_1: weights become exactly 0.")
    non_negative: bool = Field(False, description="Only weights of at least 0.")


class PreprocessingSpec(Part):
    scaling: ScalingName = "standard"
    categorical: Literal["one_hot"] = "one_hot"
    missing: MissingPolicy = Field(
        "error",
        description="What stands for a missing number; a category takes its most frequent level.",
    )
    unknown_level: UnknownLevelPolicy = Field(
        "error", description="Of predict: `ignore` encodes a level never seen as no level."
    )
    target_scaling: TargetScalingName = Field(
        "none", description="The layer learns scaled targets; predictions are in raw units."
    )


class ValidationSpec(Part):
    fraction: float = Field(0.2, ge=0, lt=1, description="Share of the rows held out.")
    method: SplitMethod = "random"
    column: ColumnName | None = Field(
        None,
        description="The order (chronological), the groups (group), the rows to hold out (column) "
        "or the levels (stratified; the target's if null). Never an input.",
    )


class EarlyStoppingSpec(Part):
    patience: int = Field(20, ge=1, description="Epochs without a better validation cost.")
    min_delta: float = Field(0.0, ge=0)


class LimitsSpec(Part):
    max_seconds: float = Field(3600.0, gt=0, le=7 * 24 * 3600)


class TrainingSpec(Part):
    """Everything but `dataset_id` and `targets` has a default.

    The cost of a training set is the mean over its rows of C, plus the penalty; the learning rate
    is on that scale.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"dataset_id": "ds_0192a3b4c5d6e7f8a9b0c1d2e3f4", "targets": ["strength"]},
            ]
        }
    )

    dataset_id: Annotated[str, Field(max_length=40, pattern=ID_PATTERN)]
    targets: Annotated[list[ColumnName], Field(min_length=1, max_length=1000)]
    name: DisplayName | None = Field(
        None, description="Of the job and its model; the targets if null."
    )
    inputs: Annotated[list[ColumnName], Field(min_length=1)] | None = Field(
        None, description="Columns to learn from; every other column if null."
    )
    activation: ActivationName = Field(
        "auto", description="`auto`: identity; sigmoid for two labels, softmax for more."
    )
    cost: CostName = Field(
        "auto", description="`auto`: what goes with the activation, cross_entropy for labels."
    )
    solver: SolverSpec = SolverSpec()
    regularization: RegularizationSpec = RegularizationSpec()
    preprocessing: PreprocessingSpec = PreprocessingSpec()
    validation: ValidationSpec = ValidationSpec()
    early_stopping: EarlyStoppingSpec | None = EarlyStoppingSpec()
    limits: LimitsSpec = LimitsSpec()
    sample_weight: ColumnName | None = Field(
        None, description="A column of weights of the rows, at least 0. Never an input."
    )
    class_weight: Literal["balanced"] | None = Field(
        None, description="`balanced`: every label weighs the same, however many rows it has."
    )
    dtype: Literal["float64", "float32"] = Field(
        "float64", description="How rows are held while training; parameters are float64."
    )
    seed: int = Field(0, ge=0, le=2**63 - 1)


class ResolvedSolver(SolverSpec):
    reason: str = Field(description="Why this solver.")


class ResolvedRegularization(RegularizationSpec):
    l2: Annotated[float, Field(ge=0)]


class ResolvedSpec(TrainingSpec):
    """A spec in which nothing is left open but what only the data's numbers can tell."""

    name: DisplayName
    inputs: list[ColumnName]
    solver: ResolvedSolver
    regularization: ResolvedRegularization
    task: Literal["regression", "classification"] = Field(
        description="Classification when the target is a column of labels."
    )
    in_memory: bool = Field(description="False: the rows are read from the file in every pass.")
    multiply_adds: int = Field(
        0,
        description="The work it may be: training rows x encoded inputs x outputs x epochs. 0 for "
        "a job from before this was counted.",
    )

    def as_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json")
