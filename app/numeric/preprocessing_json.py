"""A preprocessing as plain values, the way it is stored with its model."""

from collections.abc import Mapping
from typing import Any

from app.numeric.errors import NumericError
from app.numeric.preprocessing import CategoricalInput, Input, NumericInput, Preprocessing


def to_json(preprocessing: Preprocessing) -> dict[str, object]:
    """Plain values for JSON; Python writes floats so that they read back as the same bits."""
    kinds = {NumericInput: "numeric", CategoricalInput: "categorical"}
    return {
        "inputs": [{"kind": kinds[type(item)], **item._asdict()} for item in preprocessing.inputs]
    }


def from_json(value: Mapping[str, Any]) -> Preprocessing:
    """What `to_json` wrote, also before inputs had fills. Raises NumericError for anything else."""
    try:
        return Preprocessing(tuple(_input_from_json(item) for item in value["inputs"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NumericError(f"this is no preprocessing: {error!r}") from error


def _input_from_json(item: Mapping[str, Any]) -> Input:
    name, fill = str(item["name"]), item.get("fill")
    has_indicator = bool(item.get("has_indicator", False))
    if item["kind"] == "numeric":
        return NumericInput(
            name,
            mean=float(item["mean"]),
            scale=float(item["scale"]),
            minimum=float(item["minimum"]),
            maximum=float(item["maximum"]),
            offset=float(item["offset"]),
            fill=None if fill is None else float(fill),
            has_indicator=has_indicator,
        )
    if item["kind"] == "categorical":
        return CategoricalInput(
            name,
            levels=tuple(str(level) for level in item["levels"]),
            most_frequent=int(item["most_frequent"]),
            fill=None if fill is None else int(fill),
            has_indicator=has_indicator,
            ignores_unknown=bool(item.get("ignores_unknown", False)),
        )
    raise NumericError(f"unknown kind of input {item['kind']!r}")
