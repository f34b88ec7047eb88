"""Plain values of a model: what is stored comes back, and outputs become probabilities."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from app.models.trained_model import (
    Classes,
    Output,
    TrainedModel,
    columns_of,
    from_row,
    label_probabilities,
)
from app.numeric.activations import Array
from app.numeric.layer import Layer
from app.numeric.preprocessing import NumericInput, Preprocessing
from app.storage.tables import ModelRow


def model(*outputs: Output, classes: Classes | None = None) -> TrainedModel:
    count = len(outputs)
    layer = Layer(np.ones((count, 1)), np.arange(float(count)), "sigmoid")
    preprocessing = Preprocessing((NumericInput("a", 0.0, 1.0, -1.0, 1.0, 0.0, fill=0.5),))
    return TrainedModel("mdl_1", 2, layer, preprocessing, outputs, classes)


def test_a_model_comes_back_from_its_row_as_it_was() -> None:
    kept = model(Output("kind=v", 0.0, 1.0), classes=Classes("kind", ("u", "v")))
    columns = columns_of(kept)
    as_json = {
        name: json.loads(json.dumps(columns[name]))
        for name in ("outputs", "classes", "preprocessing")
    }

    found = from_row(ModelRow(**{**columns, **as_json}))

    assert (found.outputs, found.classes, found.preprocessing) == (
        kept.outputs,
        kept.classes,
        kept.preprocessing,
    )
    assert found.target_names == ("kind",)
    assert found.layer.w.tobytes() == kept.layer.w.tobytes()


def test_outputs_that_were_stored_before_there_were_scales_have_none() -> None:
    columns = dict(columns_of(model(Output("y", 0.0, 1.0))))
    columns["outputs"] = [{"name": "y", "minimum": 0, "maximum": 10**300}]

    found = from_row(ModelRow(**columns))

    assert found.outputs == (Output("y", 0.0, 1e300, offset=0.0, scale=1.0),)
    assert found.output_scaling.offset.dtype == np.float64


def test_predictions_are_in_units_of_the_targets() -> None:
    scaled = model(Output("p", 0.0, 1.0, offset=10.0, scale=4.0), Output("q", 0.0, 1.0))

    y = scaled.predict(np.array([[0.0], [np.nan]]))

    assert y[0] == pytest.approx([12.0, 1 / (1 + np.exp(-1.0))])
    assert y[1, 0] == pytest.approx(10 + 4 / (1 + np.exp(-0.5)))


@given(y=arrays(np.float64, (5, 4), elements=st.floats(0, 1)))
def test_sigmoids_of_several_labels_are_shares_of_their_sum(y: Array) -> None:
    shares = label_probabilities("sigmoid", y)

    assert shares is not None
    assert shares.sum(axis=1) == pytest.approx(np.ones(5))
    assert (shares[np.arange(5), y.argmax(axis=1)] == shares.max(axis=1)).all()


def test_only_activations_of_probabilities_tell_probabilities() -> None:
    y = np.array([[0.25]])

    assert label_probabilities("tanh", y) is None
    one = label_probabilities("sigmoid", y)
    assert one is not None
    assert one.tolist() == [[0.75, 0.25]]
