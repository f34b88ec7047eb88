"""Real tables over HTTP, beside scikit-learn on the same rows."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler

from tests.journeys.caller import Caller

SEEDS = (0, 1, 2)


def held_out(rows: int, seed: int, fraction: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Training and validation rows by the documented rule."""
    order = np.random.Generator(np.random.Philox(seed)).permutation(rows)
    count = round(fraction * rows)
    return order[count:], order[:count]


def test_breast_cancer_is_told_as_well_as_by_scikit_learn(caller: Caller) -> None:
    x, y = load_breast_cancer(return_X_y=True)
    dataset_id = caller.upload({f"x{k}": x[:, k] for k in range(x.shape[1])} | {"benign": y})
    ours, theirs = [], []

    for seed in SEEDS:
        job_id = caller.queue(
            dataset_id, ["benign"], activation="sigmoid", cost="cross_entropy", seed=seed
        )
        job = caller.wait(job_id)
        train, validation = held_out(len(y), seed)
        probability = caller.predict(job["model_id"], x[validation])[:, 0]
        ours.append(np.mean((probability > 0.5) == y[validation]))
        theirs.append(logistic_accuracy(x, y, train, validation))
        assert job["scores"]["validation"]["accuracy"] == pytest.approx(ours[-1])

    assert np.mean(ours) >= np.mean(theirs) - 0.01, (ours, theirs)


def test_iris_is_told_as_well_as_by_scikit_learn(caller: Caller) -> None:
    x, y = load_iris(return_X_y=True)
    species = np.array(["setosa", "versicolor", "virginica"])[y]
    dataset_id = caller.upload({f"x{k}": x[:, k] for k in range(4)} | {"species": species})

    for seed in SEEDS:
        job = caller.wait(caller.queue(dataset_id, ["species"], seed=seed))
        train, validation = held_out(len(y), seed)
        chosen = caller.predict(job["model_id"], x[validation]).argmax(axis=1)
        assert np.mean(chosen == y[validation]) == logistic_accuracy(x, y, train, validation)


def test_diabetes_has_the_r2_of_scikit_learn_on_the_same_split(caller: Caller) -> None:
    x, y = load_diabetes(return_X_y=True, scaled=False)
    names = [f"x{k}" for k in range(x.shape[1])]
    dataset_id = caller.upload(dict(zip(names, x.T, strict=True)) | {"progression": y})

    job = caller.wait(caller.queue(dataset_id, ["progression"], seed=4))

    train, validation = held_out(len(y), 4)
    peer = LinearRegression().fit(x[train], y[train])
    scores = job["scores"]
    assert scores["training"]["r2"] == pytest.approx(peer.score(x[train], y[train]), abs=1e-9)
    assert scores["validation"]["r2"] == pytest.approx(
        r2_score(y[validation], peer.predict(x[validation])), abs=1e-9
    )


def logistic_accuracy(
    x: np.ndarray, y: np.ndarray, train: np.ndarray, validation: np.ndarray
) -> float:
    scaler = StandardScaler().fit(x[train])
    peer = LogisticRegression(max_iter=1000).fit(scaler.transform(x[train]), y[train])
    return float(peer.score(scaler.transform(x[validation]), y[validation]))
