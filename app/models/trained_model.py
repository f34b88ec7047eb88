"""A trained layer with its preprocessing: the one path from raw rows to predictions."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from app.numeric import preprocessing
from app.numeric.activations import Array
from app.numeric.layer import Layer, forward
from app.numeric.preprocessing import Preprocessing
from app.storage.arrays import pack, unpack
from app.storage.tables import ModelRow


class Output(NamedTuple):
    """A target column, with the range that it had in the training rows."""

    name: str
    minimum: float
    maximum: float


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """Immutable. Raw rows are (N, k): numbers as they are, categories as codes of their levels."""

    id: str
    version: int
    layer: Layer
    preprocessing: Preprocessing
    outputs: tuple[Output, ...]

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.preprocessing.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(output.name for output in self.outputs)

    def predict(self, raw: Array) -> Array:
        """Outputs (N, m) for raw rows (N, k)."""
        return forward(self.layer, preprocessing.encode(self.preprocessing, raw))


def from_row(row: ModelRow) -> TrainedModel:
    return TrainedModel(
        id=row.id,
        version=row.version,
        layer=Layer(unpack(row.w), unpack(row.b), row.activation),
        preprocessing=preprocessing.from_json(row.preprocessing),
        outputs=tuple(Output(**output) for output in row.outputs),
    )


def columns_of(model: TrainedModel) -> Mapping[str, Any]:
    """The values of a ModelRow's columns that say what the model is."""
    w, b = pack(model.layer.w), pack(model.layer.b)
    return {
        "id": model.id,
        "version": model.version,
        "activation": model.layer.activation,
        "outputs": [output._asdict() for output in model.outputs],
        "preprocessing": preprocessing.to_json(model.preprocessing),
        "w": w,
        "b": b,
        "parameters_sha256": hashlib.sha256(w + b).hexdigest(),
    }
