"""What is asked of invert, and what it answers."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

ITEMS_MAX = 1000
ALTERNATIVES_MAX = 10
CONSTRAINTS_MAX = 100

Positive = Annotated[float, Field(gt=0, le=1e12)]
# Costs of which the largest is more than 1e12 times the smallest leave nothing of the smallest.
Weight = Annotated[float, Field(ge=1e-6, le=1e6)]
Row = dict[str, float | str | bool | None]


class Strict(BaseModel):
    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, populate_by_name=True
    )


class TargetIn(Strict):
    """What one output should be: a value, an interval, a class, or as large or small as can be."""

    value: float | None = None
    min: float | None = None
    max: float | None = None
    goal: Literal["maximize", "minimize"] | None = None
    label: str | None = Field(None, alias="class", description="The label to be predicted.")
    margin: float = Field(
        0.0, ge=0, le=1e6, description="Of a class: its lead in z over every other, at least."
    )
    probability: float | None = Field(
        None, gt=0, lt=1, description="Of a class: its probability, at least."
    )
    weight: Weight = Field(
        1.0, description="Where not all can be had: how much this one counts against the others."
    )

    @model_validator(mode="after")
    def is_one_thing(self) -> Self:
        interval = self.min is not None or self.max is not None
        asked = [self.value is not None, interval, self.goal is not None, self.label is not None]
        if sum(asked) != 1:
            raise ValueError("Give one of: value; min or max or both; goal; class.")
        if self.label is None and (self.margin or self.probability is not None):
            raise ValueError("margin and probability go with class.")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is above max.")
        return self


def in_full(target: object) -> object:
    """50 is {"value": 50}, and "maximize" is {"goal": "maximize"}."""
    if target in ("maximize", "minimize"):
        return {"goal": target}
    if isinstance(target, int | float) and not isinstance(target, bool):
        return {"value": float(target)}
    if not isinstance(target, dict | TargetIn):
        raise ValueError('Give a number, "maximize" or "minimize", or an object.')
    return target


# One type after all, so that a mistake is told where it is and not once for each alternative.
Target = Annotated[
    TargetIn,
    BeforeValidator(
        in_full, json_schema_input_type=float | Literal["maximize", "minimize"] | TargetIn
    ),
]


class FeatureIn(Strict):
    """What may happen to one input, and what a change of it costs."""

    frozen: bool = False
    min: float | None = None
    max: float | None = None
    direction: Literal["up", "down"] | None = Field(
        None, description="The only way that it may change. Of a category: along `order`."
    )
    step: Positive | None = Field(None, description="Its value is a multiple of this.")
    integer: bool = Field(False, description="The same as a step of 1.")
    levels: list[str] | None = Field(
        None, min_length=1, max_length=1000, description="The levels a category may take."
    )
    order: list[str] | None = Field(
        None,
        min_length=2,
        max_length=1000,
        description="All levels of a category from low to high: a change then costs as many times "
        "its cost as it goes steps.",
    )
    cost: Weight = Field(1.0, description="Multiplies what a change costs.")
    cost_up: Weight = Field(1.0, description="Multiplies it further on the way up.")
    cost_down: Weight = Field(1.0, description="Multiplies it further on the way down.")


class ConstraintIn(Strict):
    """A sum of inputs, each times a factor, in their own units."""

    terms: Annotated[dict[str, float], Field(min_length=1)]
    op: Literal["<=", ">=", "="]
    value: float


class ItemIn(Strict):
    """One of many questions; what it leaves out is as in the request."""

    start: Row | None = Field(None, alias="from")
    target: Annotated[dict[str, Target], Field(min_length=1)] | None = None


class FrontierIn(Strict):
    """Targets of one output to be reached one after the other."""

    output: str
    values: Annotated[list[float], Field(min_length=1, max_length=ITEMS_MAX)]
    bound: Literal["value", "min", "max"] = Field(
        "value", description="Whether each value is to be met, or is the least or the most."
    )


class InvertIn(Strict):
    """Everything but `target` has a default."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "from": {"cement": 281, "water": 181, "age": 28},
                    "target": {"strength": {"min": 50}},
                    "features": {
                        "age": {"frozen": True},
                        "cement": {"max": 400, "step": 5, "cost_up": 2.0},
                    },
                    "constraints": [
                        {"terms": {"water": 1, "cement": -0.6}, "op": "<=", "value": 0}
                    ],
                }
            ]
        }
    )

    target: dict[str, Target] = Field(
        {},
        description="What each output should be; an output left out may be anything. Of a model "
        "of labels, the target column with a class, or an output's probability.",
    )
    start: Row | None = Field(
        None,
        alias="from",
        description="Where to start; an input left out starts at its training mean "
        "(its most frequent level).",
    )
    features: dict[str, FeatureIn] = {}
    constraints: Annotated[list[ConstraintIn], Field(max_length=CONSTRAINTS_MAX)] = []
    within: Literal["training_range", "anything"] = Field(
        "training_range",
        description="Whether inputs without a min or max of their own stay in the range that the "
        "model was trained in (and at or inside their start, if that lies outside).",
    )
    nearness: Literal["l1", "l2", "linf"] = Field(
        "l2", description="The sum of all costs, the root of the sum of their squares, the largest."
    )
    units: Literal["standardised", "raw"] = Field(
        "standardised", description="Whether a cost is per unit of training scale or per raw unit."
    )
    max_changed: int | None = Field(None, ge=0, description="The most inputs that may change.")
    k: int = Field(
        1, ge=1, le=ALTERNATIVES_MAX, description="Answers that differ in what they change."
    )
    robust_epsilon: float = Field(
        0.0,
        ge=0,
        le=1e6,
        description="The target must hold even if every number is off by so many units of training "
        "scale.",
    )
    method: Literal["auto", "gradient"] = Field(
        "auto", description="`auto` is exact; `gradient` follows dC/dx."
    )
    gradient_from: Literal["start", "exact"] = Field(
        "start", description="Whether the gradient starts at the start or at the exact answer."
    )
    learning_rate: Literal["auto"] | Positive = Field(
        "auto", description="Of `gradient`; `auto` takes it from a bound on the curvature."
    )
    steps_max: int = Field(10_000, ge=1, description="Of `gradient`.")
    tolerance: float = Field(
        1e-6,
        gt=0,
        le=1,
        description="How near an output must come to count as reached, relative to "
        "max(1, |target|).",
    )
    time_limit_seconds: float = Field(
        5.0,
        gt=0,
        description="Of the whole request: what is best by then is answered. A server has a most; "
        "more counts as that.",
    )
    items: Annotated[list[ItemIn], Field(min_length=1, max_length=ITEMS_MAX)] | None = Field(
        None, description="Many questions at once; the answer has `results`, in order."
    )
    frontier: FrontierIn | None = Field(
        None, description="What each of many targets costs; the answer has `frontier`, in order."
    )
    returned: list[Literal["trace", "duals", "conflict"]] = Field([], alias="return")


class ChangeOut(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    feature: str
    start: float | str | None = Field(alias="from")
    to: float | str
    delta: float | None = Field(description="Null for a category.")
    cost: float = Field(description="What this change adds, before `nearness` sums up.")


class DistanceOut(BaseModel):
    """In units of training scale, whatever changes cost; a change of category counts 1."""

    l1: float
    l2: float
    linf: float
    changed: int


class BindingOut(BaseModel):
    limit: str = Field(description="`features.cement.max`, `training_range.age.min` ...")
    value: float
    price: float = Field(
        description="How much less it would cost, or miss, or how much further a goal would go, if "
        "the limit gave way by one unit."
    )


class RobustnessOut(BaseModel):
    """Null where nothing that large could do harm, and of a probability among three or more labels,
    where it is not told. 0 for a target that is one value."""

    input_rounding: float | None = Field(
        description="Every number may be off by so many units of training scale."
    )
    weight_change: float | None = Field(
        description="w and b, as scaled in training, may be off by a matrix of this Frobenius norm."
    )


class SolutionOut(BaseModel):
    input: dict[str, float | str]
    changes: list[ChangeOut]
    prediction: dict[str, float] = Field(description="Of exactly this input, by predict.")
    label: str | None
    verified: bool = Field(description="Whether the prediction meets the target.")
    cost: float = Field(description="By `nearness`, `units` and the costs of the features.")
    distance: DistanceOut
    in_training_range: bool
    robustness: RobustnessOut
    binding: list[BindingOut] | None = Field(description='With "return": ["duals"].')
    text: str


class IntervalOut(BaseModel):
    min: float | None = Field(description="Null without a lower end.")
    max: float | None = Field(description="Null without an upper end.")
    exact: bool = Field(description="False where the lower end is only the lowest that was found.")


class NearestOut(BaseModel):
    input: dict[str, float | str]
    prediction: dict[str, float]
    label: str | None
    verified: bool = Field(description="Whether the prediction is that of predict: always so.")


class ConflictOut(BaseModel):
    """Demands that cannot hold together, none of which can be left out."""

    demands: list[str]
    smallest: bool = Field(description="Whether it is proved that no fewer are in conflict.")


class InfeasibilityOut(BaseModel):
    text: str
    attainable: dict[str, IntervalOut] = Field(
        description="Each output alone, within the limits; empty if those contradict each other."
    )
    nearest: NearestOut | None = Field(description="The input that misses the target least.")
    binding: list[BindingOut] = Field(description="The limits that keep the target out of reach.")
    conflict: ConflictOut | None


class TraceOut(BaseModel):
    """C before the first step and after each; thinned to at most 1000 of them."""

    step: list[int]
    cost: list[float]


STATUSES = "optimal, feasible, infeasible, unbounded, time_limit or step_limit"


class ResultOut(BaseModel):
    status: str = Field(description=STATUSES)
    method: str = Field(description="closed_form, qp, lp, milp, miqp or gradient")
    gap: float | None = Field(
        description="What share of its cost a better answer could save at most; null of gradient."
    )
    solutions: list[SolutionOut]
    infeasibility: InfeasibilityOut | None
    trace: TraceOut | None
    warnings: list[str]


class InvertOut(ResultOut):
    model_id: str
    model_version: int


class ItemsOut(BaseModel):
    model_id: str
    model_version: int
    results: list[ResultOut]


class PointOut(BaseModel):
    target: float
    status: str = Field(description=STATUSES)
    cost: float | None
    gap: float
    solution: SolutionOut | None


class FrontierOut(BaseModel):
    model_id: str
    model_version: int
    output: str
    attainable: dict[str, IntervalOut]
    frontier: list[PointOut]


Answer = dict[str, Any]
