"""How good a trained layer is, on its training rows and on those held out, in raw units."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.jobs.prepared_data import PreparedData
from app.jobs.targets import Targets
from app.jobs.training_spec import ResolvedSpec
from app.models.trained_model import label_probabilities
from app.numeric import scores, target_scaling
from app.numeric.activations import ACTIVATIONS, Array
from app.numeric.layer import Layer
from app.numeric.objective import Objective
from app.numeric.rows import Rows
from app.numeric.training import Progress

# Of rows that are not held in memory so many predictions are, for the scores that need all at once.
PREDICTIONS_MAX = 4_000_000
# A table of all labels against all is not read beyond, and grows with their square.
CONFUSION_LABELS_MAX = 100


def part_scores(spec: ResolvedSpec, data: PreparedData, last: Progress) -> dict[str, Any]:
    """The scores of each part as JSON values, with the number of `rows` that they are over.

    `cost` is what training lowered: the objective, and of rows held out the mean of C.
    """
    training_cost, validation_cost = costs(spec, data, last)
    found = {"training": scores_of(spec, data.targets, data.training, last.layer, training_cost)}
    if data.validation is not None:
        found["validation"] = scores_of(
            spec, data.targets, data.validation, last.layer, validation_cost
        )
    return found


def costs(spec: ResolvedSpec, data: PreparedData, last: Progress) -> tuple[float, float]:
    """Of the layer that is kept, on both parts; nan where there is none."""
    parameters = parameters_of(last.layer)
    # The numbers of the last epoch are those of its own layer, which need not be the one to keep.
    if not last.batch and np.array_equal(parameters, last.checkpoint.state.parameters):
        return last.cost, last.validation_cost
    objective = Objective(
        spec.activation,
        spec.cost,
        data.training,
        l2=spec.regularization.l2,
        l1=spec.regularization.l1,
    )
    validation = data.training_data.validation
    return objective.value(parameters), (
        float("nan")
        if validation is None
        else Objective(spec.activation, spec.cost, validation).value(parameters)
    )


def scores_of(
    spec: ResolvedSpec, targets: Targets, rows: Rows, layer: Layer, cost: float
) -> dict[str, Any]:
    truth, y_hat = predicted(rows, targets, layer)
    if targets.labels is None:
        found = scores.regression(
            cost,
            target_scaling.unscale(targets.scaling, truth),
            target_scaling.unscale(targets.scaling, y_hat),
            # Of a scaled target no unit is a probability.
            probabilities=spec.cost == "cross_entropy"
            and spec.preprocessing.target_scaling == "none",
        )
    else:
        labels = len(targets.labels.levels)
        probabilities = label_probabilities(layer.activation, y_hat)
        found = scores.classification(
            cost,
            truth,
            y_hat if probabilities is None else probabilities,
            classes=labels,
            probabilities=probabilities is not None,
        )
        if labels > CONFUSION_LABELS_MAX:
            found = found._replace(confusion=None)
    return {"rows": len(truth), **scores.to_json(found)}


@np.errstate(over="ignore", invalid="ignore")
def predicted(rows: Rows, targets: Targets, layer: Layer) -> tuple[NDArray[Any], Array]:
    """The truth, y (N, m) or the places of labels (N,), and y_hat (N, m) as the layer gives it.

    Of all rows in memory, else of some that are spread evenly: the first, and then every k-th.
    """
    every = 1 if rows.in_memory else -(-rows.total * rows.outputs // PREDICTIONS_MAX)
    count = -(-rows.total // every)
    y_hat = np.empty((count, rows.outputs))
    truth = np.empty_like(y_hat) if targets.labels is None else np.empty(count, np.intp)
    parameters, forward = parameters_of(layer), ACTIVATIONS[layer.activation].forward
    seen = done = 0
    for x, y, _ in rows.blocks():
        chosen = slice(-seen % every, None, every)
        z = parameters @ x[:, chosen]
        end = done + z.shape[1]
        y_hat[done:end] = forward(z.T)
        told = y[:, chosen]
        truth[done:end] = told.T if targets.labels is None else targets.places(told)
        seen, done = seen + x.shape[1], end
    return truth, y_hat


def parameters_of(layer: Layer) -> Array:
    return np.hstack((layer.w, layer.b[:, np.newaxis]))
