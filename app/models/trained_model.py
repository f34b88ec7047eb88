"""A trained layer with its preprocessing: the one path from raw rows to predictions."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from app.numeric import encoding, preprocessing_json, target_scaling
from app.numeric.activations import Array
from app.numeric.layer import Layer, forward
from app.numeric.preprocessing import Preprocessing
from app.numeric.target_scaling import TargetScaling
from app.storage.arrays import pack, unpack
from app.storage.tables import ModelRow


class Output(NamedTuple):
    """What the layer gives: y = offset + scale sigma(z).

    A target column by its name, or a label as `target=label`; the range is that of the training
    rows.
    """

    name: str
    minimum: float
    maximum: float
    offset: float = 0.0
    scale: float = 1.0


class Classes(NamedTuple):
    """The labels of a target, sorted, in the order of their outputs; one output is the second."""

    target: str
    levels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """Immutable. Raw rows are (N, k): numbers as they are, categories as codes of their levels."""

    id: str
    version: int
    layer: Layer
    preprocessing: Preprocessing
    outputs: tuple[Output, ...]
    classes: Classes | None = None

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.preprocessing.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(output.name for output in self.outputs)

    @property
    def target_names(self) -> tuple[str, ...]:
        """The columns that it was trained to predict."""
        return self.output_names if self.classes is None else (self.classes.target,)

    @property
    def output_scaling(self) -> TargetScaling:
        return TargetScaling(
            np.array([output.offset for output in self.outputs]),
            np.array([output.scale for output in self.outputs]),
        )

    def predict(self, raw: Array) -> Array:
        """Outputs (N, m) for raw rows (N, k)."""
        return self.outputs_of(encoding.encode(self.preprocessing, raw))

    def outputs_of(self, x: Array) -> Array:
        """Outputs (N, m) for rows that are encoded already, x (N, n)."""
        return target_scaling.unscale(self.output_scaling, forward(self.layer, x))

    def probabilities(self, y: Array) -> Array | None:
        """The probability of each label (N, K) by outputs y (N, m), if the activation gives it."""
        return None if self.classes is None else label_probabilities(self.layer.activation, y)


def label_probabilities(activation: str, y: Array) -> Array | None:
    """Probabilities (N, K) that sum to 1, by outputs y (N, m) for labels; None if y is no such.

    One output is that of the second of two labels. Several of sigmoid tell each label from the
    rest, and are divided by their sum.
    """
    if activation == "softmax":
        return y
    if activation != "sigmoid":
        return None
    if y.shape[1] == 1:
        return np.hstack((1.0 - y, y))
    total = y.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Where every label is out of the question, all of them are equally so.
        shares: Array = np.where(total == 0.0, 1.0 / y.shape[1], y / total)
    return shares


def from_row(row: ModelRow) -> TrainedModel:
    return TrainedModel(
        id=row.id,
        version=row.version,
        layer=Layer(unpack(row.w), unpack(row.b), row.activation),
        preprocessing=preprocessing_json.from_json(row.preprocessing),
        outputs=outputs_of_row(row),
        classes=classes_of_row(row),
    )


def outputs_of_row(row: ModelRow) -> tuple[Output, ...]:
    return tuple(map(output_from_json, row.outputs))


def classes_of_row(row: ModelRow) -> Classes | None:
    found = row.classes
    return None if found is None else Classes(found["target"], tuple(found["levels"]))


def output_from_json(value: Mapping[str, Any]) -> Output:
    """What `columns_of` wrote, also before outputs had a scale."""
    # A database may give 1e300 back as an integer of 301 digits.
    numbers = {name: float(number) for name, number in value.items() if name != "name"}
    return Output(str(value["name"]), **numbers)


def columns_of(model: TrainedModel) -> Mapping[str, Any]:
    """The values of a ModelRow's columns that say what the model is."""
    w, b = pack(model.layer.w), pack(model.layer.b)
    return {
        "id": model.id,
        "version": model.version,
        "activation": model.layer.activation,
        "outputs": [output._asdict() for output in model.outputs],
        "classes": None if model.classes is None else model.classes._asdict(),
        "preprocessing": preprocessing_json.to_json(model.preprocessing),
        "w": w,
        "b": b,
        "parameters_sha256": hashlib.sha256(w + b).hexdigest(),
    }
