"""Labels from a table to a prediction, against scikit-learn on the same rows."""

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, roc_auc_score

from app.numeric.split import split_by
from tests.builders import Api, Json
from tests.jobs.flowers import encoded, flowers, random_parts

L2 = 0.01
# A cost that is right to its last digit has probabilities that are right to half as many.
NEAR = 1e-8
TO_THE_END: Json = {
    "solver": {"tolerance": 0.0},
    "early_stopping": None,
    "regularization": {"l2": L2},
}
FILLED: Json = {"preprocessing": {"missing": "median"}}


@pytest.mark.parametrize("labels", [2, 3])
def test_labels_of_a_table_with_gaps_are_told_as_by_scikit_learn(api: Api, labels: int) -> None:
    data = flowers(labels)
    training, validation = random_parts(len(data.species))
    x = encoded(data, training)
    peer = logistic(len(training)).fit(x[training], data.species[training])

    job = api.train(api.upload(data.table), ["species"], **TO_THE_END, **FILLED)
    answer = api.post(f"/v1/models/{job['model_id']}/predict", {"rows": data.rows(validation)})

    expected = peer.predict_proba(x[validation])
    told = answer["predictions"]
    assert [row["label"] for row in told] == peer.predict(x[validation]).tolist()
    assert [list(row["probabilities"].values()) for row in told] == [
        pytest.approx(row, abs=NEAR) for row in expected.tolist()
    ]
    assert {tuple(row["probabilities"]) for row in told} == {tuple(sorted(set(data.species)))}
    assert_scores(job["scores"]["validation"], data.species[validation], expected)
    assert_scores(
        job["scores"]["training"], data.species[training], peer.predict_proba(x[training])
    )


def assert_scores(scores: Json, truth: Any, probability: Any) -> None:
    levels = np.unique(truth)
    binary = len(levels) == 2
    assert scores["rows"] == len(truth)
    assert scores["accuracy"] == accuracy_score(truth, levels[probability.argmax(axis=1)])
    assert scores["log_loss"] == pytest.approx(log_loss(truth, probability), rel=1e-9)
    area = roc_auc_score(truth, probability[:, 1] if binary else probability, multi_class="ovr")
    assert scores["auc"] == pytest.approx(area, rel=1e-9)
    predicted = levels[probability.argmax(axis=1)]
    assert scores["confusion"] == confusion_matrix(truth, predicted).tolist()
    assert sum(item["count"] for item in scores["calibration"]) == len(truth)
    assert (scores["r2"], scores["mse"]) == (None, None)


def test_the_model_says_what_its_labels_are(api: Api) -> None:
    dataset_id = api.upload(flowers(2, gaps=0.0).table)

    model = api.get(f"/v1/models/{api.model_id(dataset_id, ['species'], **TO_THE_END)}")
    one_each = api.get(
        f"/v1/models/{api.model_id(dataset_id, ['species'], activation='softmax', **TO_THE_END)}"
    )

    levels = ["versicolor", "virginica"]
    assert model["classes"] == one_each["classes"] == {"target": "species", "levels": levels}
    assert [output["name"] for output in model["outputs"]] == ["species=virginica"]
    assert [output["name"] for output in one_each["outputs"]] == [
        "species=versicolor",
        "species=virginica",
    ]


def test_the_two_outputs_of_softmax_and_the_one_of_sigmoid_tell_the_same(api: Api) -> None:
    """Half the penalty: the difference of two rows of w does what one row does."""
    data = flowers(2, gaps=0.0)
    dataset_id, body = api.upload(data.table), {"rows": data.rows(np.arange(20))}

    one = api.model_id(dataset_id, ["species"], **TO_THE_END)
    two = api.model_id(
        dataset_id,
        ["species"],
        activation="softmax",
        **TO_THE_END | {"regularization": {"l2": 2 * L2}},
    )

    told = [api.post(f"/v1/models/{model}/predict", body)["predictions"] for model in (one, two)]
    for by_sigmoid, by_softmax in zip(*told, strict=True):
        assert by_sigmoid["probabilities"] == pytest.approx(by_softmax["probabilities"], abs=1e-7)


def test_whole_numbers_are_labels_by_their_own_names(api: Api) -> None:
    data = flowers(3, gaps=0.0)
    table = data.table | {"species": np.unique(data.species, return_inverse=True)[1] * 7 + 3}

    job = api.train(api.upload(table), ["species"], activation="softmax", **TO_THE_END)
    answer = api.post(f"/v1/models/{job['model_id']}/predict", {"rows": data.rows(np.arange(150))})

    classes = api.get(f"/v1/models/{job['model_id']}")["classes"]
    assert classes == {"target": "species", "levels": ["3", "10", "17"]}
    right = [row["label"] for row in answer["predictions"]] == table["species"].astype(str)
    assert right.mean() == pytest.approx(
        (0.8 * job["scores"]["training"]["accuracy"])
        + (0.2 * job["scores"]["validation"]["accuracy"])
    )


@pytest.mark.parametrize("activation", ["tanh", "identity"])
def test_other_activations_tell_the_nearest_label_without_probabilities(
    api: Api, activation: str
) -> None:
    data = flowers(3, gaps=0.0)

    job = api.train(
        api.upload(data.table), ["species"], activation=activation, cost="half_squared_error"
    )
    rows = data.rows(np.arange(150))
    told = api.post(f"/v1/models/{job['model_id']}/predict", {"rows": rows})["predictions"]

    for row in told:
        assert row["probabilities"] is None
        assert f"species={row['label']}" == max(row["y"], key=row["y"].get)
    assert job["scores"]["validation"]["accuracy"] > 0.6
    assert job["scores"]["validation"]["log_loss"] is None


def test_sigmoids_of_several_labels_give_probabilities_that_sum_to_one(api: Api) -> None:
    data = flowers(3)

    model = api.model_id(
        api.upload(data.table), ["species"], activation="sigmoid", cost="cross_entropy", **FILLED
    )
    rows = data.rows(np.arange(30))
    told = api.post(f"/v1/models/{model}/predict", {"rows": rows})["predictions"]

    for row in told:
        assert sum(row["probabilities"].values()) == pytest.approx(1.0, abs=1e-12)
        ratio = {
            label: row["y"][f"species={label}"] / probability
            for label, probability in row["probabilities"].items()
        }
        assert max(ratio.values()) == pytest.approx(min(ratio.values()))


def test_balanced_labels_weigh_as_in_scikit_learn(api: Api) -> None:
    data = flowers(3, gaps=0.0)
    kept = np.flatnonzero((data.species != "setosa") | (np.arange(150) % 4 == 0))
    table = {name: column[kept] for name, column in data.table.items()}
    data = data._replace(
        numbers=data.numbers[kept], island=data.island[kept], species=data.species[kept]
    )
    training, validation = random_parts(len(kept))
    x = encoded(data, training)
    peer = logistic(len(training), class_weight="balanced").fit(x[training], data.species[training])

    job = api.train(api.upload(table), ["species"], class_weight="balanced", **TO_THE_END)

    assert_probabilities(api, job, data.rows(validation), peer.predict_proba(x[validation]))


@pytest.mark.parametrize("balanced", [False, True])
def test_rows_weigh_what_their_column_says_as_in_scikit_learn(api: Api, balanced: bool) -> None:
    data = flowers(2, gaps=0.0)
    weights = np.random.default_rng(5).integers(0, 4, len(data.species)) / 7
    training, validation = random_parts(len(data.species))
    x = encoded(data, training)
    class_weight = "balanced" if balanced else None
    peer = logistic(len(training), class_weight=class_weight)
    # The penalty is beside a mean over rows whose weights have mean 1; balancing keeps their sum.
    normalised = weights[training] / weights[training].mean()
    peer.fit(x[training], data.species[training], sample_weight=normalised)

    job = api.train(
        api.upload(data.table | {"weight": weights}),
        ["species"],
        sample_weight="weight",
        class_weight=class_weight,
        **TO_THE_END,
    )

    assert "weight" not in job["spec"]["inputs"]
    assert_probabilities(api, job, data.rows(validation), peer.predict_proba(x[validation]))


def test_a_label_that_was_only_held_out_is_warned_of(api: Api) -> None:
    data = flowers(2, gaps=0.0)
    species = data.species.copy()
    species[:2] = "sanguinea"
    held_out = (np.arange(100) < 20).astype(int)

    job = api.train(
        api.upload(data.table | {"species": species, "late": held_out}),
        ["species"],
        validation={"method": "column", "column": "late"},
        **TO_THE_END,
    )

    assert job["state"] == "succeeded", job["error"]
    assert len(job["warnings"]) == 1
    assert "'sanguinea'" in job["warnings"][0]
    assert "stratified" in job["warnings"][0]
    assert np.sum(job["scores"]["validation"]["confusion"], axis=1).tolist()[0] == 2


def test_classes_without_a_mistake_end_with_a_warning_and_a_remedy(api: Api) -> None:
    x = np.r_[np.linspace(-3, -1, 30), np.linspace(1, 3, 30)]
    dataset_id = api.upload({"x": x, "side": np.where(x > 0, "right", "left")})

    free = api.train(dataset_id, ["side"], early_stopping=None, regularization={"l2": 0.0})
    held = api.train(dataset_id, ["side"], regularization={"l2": 1e-3})

    assert (free["state"], free["stop_reason"]) == ("succeeded", "separable")
    assert "regularization.l2" in free["warnings"][0]
    assert held["warnings"] == []


def test_stratified_rows_are_those_of_the_documented_split(api: Api) -> None:
    data = flowers(3, gaps=0.0)
    codes = np.unique(data.species, return_inverse=True)[1]
    parts = split_by("stratified", 150, fraction=0.2, seed=7, column=codes)

    job = api.train(
        api.upload(data.table),
        ["species"],
        validation={"method": "stratified"},
        seed=7,
        **TO_THE_END,
    )

    counts = np.sum(job["scores"]["validation"]["confusion"], axis=1)
    assert counts.tolist() == np.bincount(codes[parts.validation]).tolist() == [10, 10, 10]
    x = encoded(data, parts.training)
    peer = logistic(120).fit(x[parts.training], data.species[parts.training])
    assert_probabilities(
        api, job, data.rows(parts.validation), peer.predict_proba(x[parts.validation])
    )


def assert_probabilities(api: Api, job: Json, rows: list[Json], expected: Any) -> None:
    assert job["state"] == "succeeded", job["error"]
    told = api.post(f"/v1/models/{job['model_id']}/predict", {"rows": rows})["predictions"]
    assert [list(row["probabilities"].values()) for row in told] == [
        pytest.approx(row, abs=NEAR) for row in expected.tolist()
    ]


def logistic(rows: int, **options: Any) -> LogisticRegression:
    return LogisticRegression(
        C=1 / (rows * L2), tol=1e-12, max_iter=1000, solver="newton-cholesky", **options
    )
