"""Checkpoints of training as bytes and back: nothing is pickled, every bit survives."""

import json
from io import BytesIO
from typing import Any

import numpy as np

from app.numeric.activations import Array
from app.numeric.errors import NumericError
from app.numeric.method import State
from app.numeric.training import Checkpoint, Record

FORMAT = 1


def to_bytes(checkpoint: Checkpoint) -> bytes:
    """One JSON line with the numbers, then the arrays in NumPy's own format, one after another."""
    state, record, seconds = checkpoint
    numbers = {
        "format": FORMAT,
        "state": [state.epoch, state.batch, state.cost.hex(), state.converged],
        "record": [
            record.first_cost.hex(),
            [cost.hex() for cost in record.recent_costs],
            record.best_cost.hex(),
            record.best_epoch,
        ],
        "seconds": seconds,
    }
    arrays = [state.parameters, record.best_parameters, record.parameters_before, *state.memory]
    buffer = BytesIO()
    buffer.write(json.dumps(numbers | {"arrays": len(arrays)}).encode() + b"\n")
    for array in arrays:
        np.lib.format.write_array(buffer, np.asarray(array, order="C"), allow_pickle=False)
    return buffer.getvalue()


def from_bytes(data: bytes) -> Checkpoint:
    """What `to_bytes` was given. Raises NumericError for anything else."""
    buffer = BytesIO(data)
    try:
        numbers: dict[str, Any] = json.loads(buffer.readline())
        if numbers["format"] != FORMAT:
            raise NumericError(f"there is no checkpoint of format {numbers['format']}")
        arrays: list[Array] = [
            np.lib.format.read_array(buffer, allow_pickle=False) for _ in range(numbers["arrays"])
        ]
        parameters, best_parameters, parameters_before, *memory = arrays
        epoch, batch, cost, converged = numbers["state"]
        first_cost, recent_costs, best_cost, best_epoch = numbers["record"]
        state = State(epoch, batch, parameters, float.fromhex(cost), converged, tuple(memory))
        record = Record(
            float.fromhex(first_cost),
            tuple(map(float.fromhex, recent_costs)),
            float.fromhex(best_cost),
            best_epoch,
            best_parameters,
            parameters_before,
        )
    except (KeyError, TypeError, ValueError, EOFError) as error:
        raise NumericError(f"this is no checkpoint: {error!r}") from error
    return Checkpoint(state, record, float(numbers["seconds"]))
