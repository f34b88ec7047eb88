"""What happens to models: stored with the job's end, read, never changed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from app.errors import ModelNotFound
from app.models import queries
from app.models.trained_model import TrainedModel, columns_of, from_row
from app.numeric import preprocessing
from app.numeric.activations import Array
from app.storage.database import Session, clock
from app.storage.tables import ModelRow


class Parameters(NamedTuple):
    """y = offset + scale sigma(w x + b): w (m, n), one column an encoded input; the others (m,)."""

    w: Array
    b: Array
    offset: Array
    scale: Array
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    activation: str


def store(
    session: Session,
    model: TrainedModel,
    *,
    owner: str,
    name: str,
    job_id: str,
    dataset_id: str,
    cost: str,
    scores: Mapping[str, Any],
) -> None:
    """Adds the model to the caller's transaction, under the next version of its name."""
    model = replace(model, version=queries.next_version(session, owner, name))
    row = ModelRow(
        owner=owner,
        name=name,
        job_id=job_id,
        dataset_id=dataset_id,
        cost=cost,
        scores=dict(scores),
        created_at=clock(session),
        **columns_of(model),
    )
    session.add(row)


def get(session: Session, owner: str, model_id: str) -> ModelRow:
    row = queries.find(session, owner, model_id)
    if row is None:
        raise ModelNotFound(model_id)
    return row


def newest(session: Session, owner: str, *, before: str | None, limit: int) -> Sequence[ModelRow]:
    return queries.newest(session, owner, before=before, limit=limit)


def parameters(row: ModelRow, *, raw: bool) -> Parameters:
    """In raw units of the inputs, or as trained on the scaled inputs.

    Raw parameters of the identity give raw units of the outputs too: offset 0 and scale 1.
    """
    model = from_row(row)
    w, b, (offset, scale) = model.layer.w, model.layer.b, model.output_scaling
    if raw:
        w, b = preprocessing.raw_parameters(model.preprocessing, w, b)
    if raw and row.activation == "identity":
        with np.errstate(over="ignore", invalid="ignore"):
            w, b = scale[:, np.newaxis] * w, offset + scale * b
        offset, scale = np.zeros_like(offset), np.ones_like(scale)
    names = preprocessing.encoded_names(model.preprocessing)
    return Parameters(w, b, offset, scale, names, model.output_names, row.activation)
