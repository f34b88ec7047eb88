"""DiCE (dice-ml) on a model of ours: searches of any model, at random or by a genetic algorithm."""

import importlib
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from app.models.trained_model import TrainedModel
from app.numeric.activations import Array

MISSING = "dice-ml is not installed, so it does not race here: pip install dice-ml"


class Classifier:
    """Our model as scikit-learn's would look: two classes, 0 and 1."""

    classes_ = np.array([0, 1])

    def __init__(self, model: TrainedModel) -> None:
        self.model = model

    def predict_proba(self, rows: Any) -> Array:
        y = self.model.predict(np.asarray(rows, dtype=np.float64))
        return np.hstack((1.0 - y, y))

    def predict(self, rows: Any) -> Any:
        return (self.predict_proba(rows)[:, 1] > 0.5).astype(int)


def load() -> Any | None:
    """The library, or None where it is not installed."""
    try:
        return importlib.import_module("dice_ml")
    except ImportError:
        return None


class Dice:
    """Searches of one method over one model."""

    def __init__(
        self, library: Any, method: str, model: TrainedModel, raw: Array, codes: Array
    ) -> None:
        pandas = importlib.import_module("pandas")
        names = list(model.input_names)
        self.frame = pandas.DataFrame(raw, columns=names)
        data = library.Data(
            dataframe=self.frame.assign(outcome=codes.astype(int)),
            continuous_features=names,
            outcome_name="outcome",
        )
        self.names = names
        peer = library.Model(model=Classifier(model), backend="sklearn")
        self.search = library.Dice(data, peer, method=method)

    def counterfactual(
        self, row: int, *, ranges: dict[str, list[float]], vary: Sequence[str]
    ) -> Array | None:
        """A row (k,) of the other class, None where none is found."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = self.search.generate_counterfactuals(
                    self.frame.iloc[[row]],
                    total_CFs=1,
                    desired_class="opposite",
                    features_to_vary=list(vary),
                    permitted_range={name: ranges[name] for name in vary},
                    verbose=False,
                )
            except Exception:  # noqa: BLE001 - it says so by an exception of its own
                return None
        frame = found.cf_examples_list[0].final_cfs_df
        if frame is None or not len(frame):
            return None
        answer: Array = frame[self.names].to_numpy(dtype=np.float64)[0]
        return answer
