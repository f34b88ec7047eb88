"""What was asked of a training job, and what that came to: as JSON, on the wire and in the row."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from app.api.names import ID_PATTERN, DisplayName
from app.numeric.activations import ACTIVATIONS
from app.numeric.costs import COSTS
from app.numeric.preprocessing import SCALINGS
from app.numeric.solvers import SOLVERS


def one_of(names: Iterable[str]) -> tuple[AfterValidator, WithJsonSchema]:
    """Restricts a string to the rows of a table, in validation and in the schema alike."""
    known = tuple(names)

    def check(value: str) -> str:
        if value not in known:
            raise ValueError(f"{value[:40]!r} is not known here; it must be one of {known}")
        return value

    return AfterValidator(check), WithJsonSchema({"type": "string", "enum": list(known)})


ActivationName = Annotated[str, *one_of(ACTIVATIONS)]
CostName = Annotated[str, *one_of(COSTS)]
SolverName = Annotated[str, *one_of(("auto", *SOLVERS))]
ScalingName = Annotated[str, *one_of(SCALINGS)]
ColumnName = Annotated[str, Field(min_length=1, max_length=200)]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class SolverSpec(Part):
    name: SolverName = "auto"
    learning_rate: Literal["auto"] | Annotated[float, Field(gt=0)] = Field(
        "auto", description="`auto` takes it from a bound on the curvature of the mean cost."
    )
    batch_size: Literal["auto", "full"] | Annotated[int, Field(ge=1)] = "auto"
    momentum: float = Field(0.9, ge=0, lt=1)
    epochs: int = Field(500, ge=1, le=1_000_000)
    tolerance: float = Field(
        1e-8, ge=0, description="Stop when the cost falls by less than this share in an epoch."
    )


class RegularizationSpec(Part):
    l2: float = Field(0.0, ge=0, description="Adds l2/2 |w|^2 to the mean cost; b is left alone.")


class PreprocessingSpec(Part):
    scaling: ScalingName = "standard"
    categorical: Literal["one_hot"] = "one_hot"
    missing: Literal["error"] = "error"


class ValidationSpec(Part):
    fraction: float = Field(0.2, ge=0, lt=1, description="Share of the rows held out.")
    method: Literal["random"] = "random"


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
    activation: ActivationName = "identity"
    cost: CostName = "half_squared_error"
    solver: SolverSpec = SolverSpec()
    regularization: RegularizationSpec = RegularizationSpec()
    preprocessing: PreprocessingSpec = PreprocessingSpec()
    validation: ValidationSpec = ValidationSpec()
    early_stopping: EarlyStoppingSpec | None = EarlyStoppingSpec()
    limits: LimitsSpec = LimitsSpec()
    dtype: Literal["float64"] = "float64"
    seed: int = Field(0, ge=0, le=2**63 - 1)


class ResolvedSolver(SolverSpec):
    reason: str = Field(description="Why this solver.")


class ResolvedSpec(TrainingSpec):
    """A spec in which nothing is left open but what only the data's numbers can tell."""

    name: DisplayName
    inputs: list[ColumnName]
    solver: ResolvedSolver

    def as_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json")
