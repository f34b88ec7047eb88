"""Bodies of predict as arrays, and predictions as bodies: the fast path of the API."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec
import numpy as np
import orjson
from msgspec import UNSET, UnsetType

from app.api.json_text import count, read_json, refuse_repeated_keys
from app.errors import Fault, InvalidInput, MalformedJson
from app.models.trained_model import TrainedModel
from app.numeric.activations import Array
from app.numeric.class_scores import predicted_classes
from app.numeric.preprocessing import CategoricalInput, Input, NumericInput

Cell = float | str | bool | None

FAULTS_MAX = 100
MESSAGE_LENGTH_MAX = 200
OUT_OF_RANGE = "Number out of range"
MISSING = float("nan")
UNKNOWN_LEVEL = -1.0
PATH_STEP = re.compile(r"\.(?P<key>[^.\[]+)|\[(?P<index>\d+)\]")


class PredictBody(msgspec.Struct, forbid_unknown_fields=True):
    """Either `rows`, raw values by name, or `x`, the same values in the order of the inputs."""

    rows: list[dict[str, Cell]] | UnsetType = UNSET
    x: list[list[Cell]] | UnsetType = UNSET


def decode(body: bytes, *, rows_max: int) -> PredictBody:
    """Raises MalformedJson, or InvalidInput with a pointer to the first mistake."""
    refuse_more_rows(body, rows_max)
    try:
        decoded = msgspec.json.decode(body, type=PredictBody)
    except msgspec.ValidationError as error:
        if str(error).startswith(OUT_OF_RANGE):
            read_json(body)
        raise misfit(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # The other reader says at which line and column.
        read_json(body)
        raise MalformedJson("It cannot be read.") from None
    if isinstance(decoded.rows, UnsetType) == isinstance(decoded.x, UnsetType):
        detail = "Give either `rows` (values by name) or `x` (a matrix)."
        raise InvalidInput(detail, [Fault(detail, "")])
    refuse_repeated_keys(body, pairs=1 + sum(map(len, decoded.rows or ())))
    return decoded


def refuse_more_rows(body: bytes, rows_max: int) -> None:
    """Raises InvalidInput for more rows than are allowed, before any of them exists.

    An empty row costs three bytes in the body and sixty or more in memory.
    """
    # The document itself is one more, and so is the list of its rows.
    allowed = rows_max + 2
    if body.count(b"[") + body.count(b"{") > allowed and count(body, b"[", b"{") > allowed:
        raise InvalidInput(f"One request may have {rows_max:,} rows; there are more.")


def misfit(message: str) -> InvalidInput:
    """The error for what msgspec says of well-formed JSON that is no PredictBody."""
    what, _, path = message.rpartition(" - at `$")
    detail = (what or message)[:MESSAGE_LENGTH_MAX]
    return InvalidInput(detail, [Fault(detail, pointer_of(path.rstrip("`") if what else ""))])


def pointer_of(path: str) -> str:
    """A JSON pointer from msgspec's path: `.rows[3][...]`, whose key is not told, is /rows/3."""
    told = path.partition("[...]")[0]
    return "".join(f"/{step['key'] or step['index']}" for step in PATH_STEP.finditer(told))


def raw_rows(model: TrainedModel, body: PredictBody) -> Array:
    """The rows as (N, k), categories as codes. Raises InvalidInput with every fault, up to 100."""
    if not isinstance(body.x, UnsetType):
        return matrix(model, body.x)
    rows = body.rows or []
    require_rows(len(rows))
    faults = list(islice(name_faults(model, rows), FAULTS_MAX))
    if faults:
        raise invalid(faults)
    inputs = model.preprocessing.inputs
    columns = [[row[column.name] for row in rows] for column in inputs]
    return from_columns(
        inputs, columns, lambda index, k: f"/rows/{index}/{escaped(inputs[k].name)}"
    )


def require_rows(count: int) -> None:
    if count == 0:
        raise InvalidInput("There is no row to work on.")


def name_faults(model: TrainedModel, rows: Sequence[dict[str, Cell]]) -> Iterator[Fault]:
    """Names that are missing or unknown. A row of the dataset may carry its targets along."""
    names = model.input_names
    inputs = frozenset(names)
    known = inputs | frozenset(model.target_names)
    for index, row in enumerate(rows):
        if row.keys() == inputs:
            continue
        for name in names:
            if name not in row:
                yield Fault(f"{name!r} is missing.", f"/rows/{index}", index + 1, name)
        for name in row:
            if name not in known:
                yield Fault(
                    f"{name[:80]!r} is not an input of this model. "
                    f"It has: {', '.join(names[:20])}.",
                    f"/rows/{index}/{escaped(name)}",
                    index + 1,
                )


def matrix(model: TrainedModel, rows: list[list[Cell]]) -> Array:
    require_rows(len(rows))
    inputs = model.preprocessing.inputs
    uneven = (
        Fault(
            f"Row {index + 1} has {len(row)} values for {len(inputs)} inputs.",
            f"/x/{index}",
            index + 1,
        )
        for index, row in enumerate(rows)
        if len(row) != len(inputs)
    )
    if faults := list(islice(uneven, FAULTS_MAX)):
        raise invalid(faults)
    columns = [list(column) for column in zip(*rows, strict=True)]
    return from_columns(inputs, columns, lambda index, k: f"/x/{index}/{k}")


def from_columns(inputs: Sequence[Input], columns: Sequence[list[Cell]], pointer: Any) -> Array:
    raw = np.empty((len(columns[0]), len(inputs)))
    faults: list[Fault] = []
    for k, (column, cells) in enumerate(zip(inputs, columns, strict=True)):
        codes = {level: code for code, level in enumerate(levels_of(column))}
        if isinstance(column, NumericInput) and all(type(cell) is float for cell in cells):
            raw[:, k] = cells
            continue
        for index, cell in enumerate(cells):
            value = cell_value(column, codes, cell)
            if isinstance(value, str):
                faults.append(Fault(value, pointer(index, k), index + 1, column.name))
                if len(faults) >= FAULTS_MAX:
                    raise invalid(faults)
            else:
                raw[index, k] = value
    if faults:
        raise invalid(faults)
    return raw


def levels_of(column: Input) -> tuple[str, ...]:
    return column.levels if isinstance(column, CategoricalInput) else ()


def cell_value(column: Input, codes: dict[str, int], cell: Cell) -> float | str:
    """The number that stands for a cell, or a sentence on why there is none.

    nan is a missing cell that the model fills, UNKNOWN_LEVEL a level that it takes for no level.
    """
    if cell is None:
        if column.fill is not None:
            return MISSING
        return f"{column.name!r} is missing, and this model cannot work without it."
    if isinstance(column, NumericInput):
        if isinstance(cell, float):
            return cell
        return f"{column.name!r} takes a number."
    text = ("true" if cell else "false") if isinstance(cell, bool) else cell
    if isinstance(text, str) and text in codes:
        return float(codes[text])
    if isinstance(text, str) and isinstance(column, CategoricalInput) and column.ignores_unknown:
        return UNKNOWN_LEVEL
    return unknown_level(column, codes)


def unknown_level(column: Input, codes: dict[str, int]) -> str:
    known = ", ".join(list(codes)[:20])
    return f"{column.name!r} takes one of the levels it was trained with: {known}."


def escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def invalid(faults: Sequence[Fault]) -> InvalidInput:
    or_more = " or more" if len(faults) >= FAULTS_MAX else ""
    detail = (
        faults[0].detail if len(faults) == 1 else f"{len(faults)}{or_more} values need mending."
    )
    return InvalidInput(detail, faults[:FAULTS_MAX])


def encode(model: TrainedModel, y: Array, warnings: Sequence[Sequence[str]]) -> bytes:
    """The answer of predict, one entry a row, in order."""
    names = model.output_names
    predictions = [
        {
            "y": dict(zip(names, row, strict=True)),
            "label": label,
            "probabilities": probabilities,
            "warnings": row_warnings,
        }
        for row, label, probabilities, row_warnings in zip(
            y.tolist(), *told_labels(model, y), warnings, strict=True
        )
    ]
    return orjson.dumps(
        {
            "model_id": model.id,
            "model_version": model.version,
            "predictions": predictions,
            "warnings": [],
        }
    )


def told_labels(
    model: TrainedModel, y: Array
) -> tuple[Iterable[str | None], Iterable[dict[str, float] | None]]:
    """The label of each row and the probability of every label, None where there is no such."""
    nothing = [None] * len(y)
    if model.classes is None:
        return nothing, nothing
    levels = model.classes.levels
    labels = [levels[place] for place in predicted_classes(y).tolist()]
    probabilities = model.probabilities(y)
    if probabilities is None:
        return labels, nothing
    return labels, [dict(zip(levels, row, strict=True)) for row in probabilities.tolist()]
