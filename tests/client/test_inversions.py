"""Every question that the client can ask backward, and every answer that it reads."""

import numpy as np
import pytest

from app.client import Backsolve, Invalid, Model
from tests.builders import Api, Json

# Nothing here is about the database.
pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)

X = np.random.default_rng(7).uniform(0.0, 3.0, size=(60, 2))
Y = X @ [2.0, -1.0] + 3.0
EDGES = {"x1": {"min": 0.0, "max": 3.0}, "x2": {"min": 0.0, "max": 3.0}}


@pytest.fixture
def model(api: Api, backsolve: Backsolve) -> Model:
    """y = 2 x1 - x2 + 3, exactly."""
    job = backsolve.train(backsolve.upload_table(x=X, y=Y).id, "y", validation={"fraction": 0.0})
    api.run(job.id, 1)
    return job.wait(30).model()


def test_inversion_gives_an_input_that_predict_confirms(backsolve: Backsolve, model: Model) -> None:
    found = backsolve.invert(
        model.id, {"y": 7.0}, start={"x1": 1, "x2": 1}, features={"x2": {"frozen": True}}
    )

    solution = found.solutions[0]
    assert (found.status, found.method, found.gap) == ("optimal", "closed_form", 0.0)
    assert solution.verified
    assert solution.input == {"x1": pytest.approx(2.5), "x2": 1.0}
    assert [(change.feature, change.start) for change in solution.changes] == [("x1", 1.0)]
    assert solution.cost == solution.distance.l2 == solution.changes[0].cost
    assert (solution.distance.changed, solution.label, solution.binding) == (1, None, None)
    assert backsolve.predict(model.id, rows=[solution.input]).y["y"] == pytest.approx([7.0])


def test_every_option_is_understood(backsolve: Backsolve, model: Model) -> None:
    found = backsolve.invert(
        model.id,
        {"y": {"min": 6.0}},
        start={"x1": 1.0, "x2": 1.0},
        features={"x1": {"max": 2.4, "step": 0.1, "cost_up": 2.0}, "x2": {"direction": "down"}},
        constraints=[{"terms": {"x1": 1, "x2": 1}, "op": ">=", "value": 0.5}],
        within="training_range",
        nearness="l1",
        units="raw",
        max_changed=2,
        k=2,
        robust_epsilon=0.01,
        method="auto",
        gradient_from="start",
        learning_rate="auto",
        steps_max=100,
        tolerance=1e-9,
        time_limit_seconds=2.0,
        returned=["duals", "conflict"],
    )

    assert found.status == "optimal"
    for solution in found.solutions:
        assert solution.verified
        assert solution.robustness.input_rounding is not None
        assert solution.robustness.input_rounding >= 0.01 - 1e-12
        assert solution.binding is not None


def test_what_is_out_of_reach_says_how_far_one_gets(backsolve: Backsolve, model: Model) -> None:
    found = backsolve.invert(model.id, {"y": 70.0}, features=EDGES, returned=["conflict"])

    assert (found.status, found.solutions) == ("infeasible", ())
    assert found.infeasibility is not None
    assert found.infeasibility.attainable["y"].max == pytest.approx(9.0)
    assert found.infeasibility.attainable["y"].exact
    assert found.infeasibility.nearest is not None
    assert found.infeasibility.nearest.input == {"x1": pytest.approx(3), "x2": pytest.approx(0)}
    assert found.infeasibility.nearest.prediction["y"] == pytest.approx(9.0)
    binding = found.infeasibility.binding
    assert [(limit.limit, limit.value) for limit in binding] == [
        ("features.x1.max", 3.0),
        ("features.x2.min", 0.0),
    ]
    assert [limit.price for limit in binding] == pytest.approx([2.0, 1.0])
    assert found.infeasibility.conflict is not None
    assert set(found.infeasibility.conflict.demands) == {
        "target.y",
        "features.x1.max",
        "features.x2.min",
    }
    assert found.infeasibility.conflict.smallest
    assert found.infeasibility.text == "Within the limits y reaches 9 at most."


def test_a_contradiction_has_no_nearest_input(backsolve: Backsolve, model: Model) -> None:
    terms: Json = {"terms": {"x1": 1}}
    apart = [{**terms, "op": ">=", "value": 2}, {**terms, "op": "<=", "value": 1}]

    found = backsolve.invert(model.id, {"y": 5.0}, constraints=apart)

    assert found.infeasibility is not None
    assert found.infeasibility.nearest is None
    assert found.infeasibility.conflict is not None
    assert found.infeasibility.conflict.demands == ("constraints[0]", "constraints[1]")


def test_the_trace_of_the_gradient_comes_as_arrays(backsolve: Backsolve, model: Model) -> None:
    found = backsolve.invert(model.id, {"y": 7.0}, method="gradient", returned=["trace"])

    assert (found.method, found.gap) == ("gradient", None)
    assert found.trace is not None
    assert found.trace.step.tolist() == list(range(len(found.trace.cost)))
    assert found.trace.cost[-1] <= found.trace.cost[0]


def test_many_questions_have_as_many_answers(backsolve: Backsolve, model: Model) -> None:
    many = backsolve.invert_many(
        model.id,
        [{"target": {"y": 5.0}}, {"start": {"x1": 1.0}}, {"target": {"y": "maximize"}}],
        target={"y": {"min": 6.0, "max": 7.0}},
        features=EDGES,
    )

    assert [found.status for found in many] == ["optimal"] * 3
    assert {(found.model_id, found.model_version) for found in many} == {(model.id, model.version)}
    predicted = [found.solutions[0].prediction["y"] for found in many]
    assert predicted == [pytest.approx(5.0), pytest.approx(6.0), pytest.approx(9.0)]


def test_a_frontier_comes_as_points_and_arrays(backsolve: Backsolve, model: Model) -> None:
    found = backsolve.frontier(
        model.id, "y", np.array([6.0, 7.0, 8.0, 50.0]), bound="min", features=EDGES
    )

    assert (found.output, found.model_id, len(found)) == ("y", model.id, 4)
    assert [point.status for point in found] == ["optimal", "optimal", "optimal", "infeasible"]
    assert found.target.tolist() == [6.0, 7.0, 8.0, 50.0]
    assert (np.diff(found.cost[:3]) > 0.0).all()
    assert np.isnan(found.cost[3])
    assert found.points[3].solution is None
    assert found.points[0].solution is not None
    assert found.points[0].solution.prediction["y"] == pytest.approx(6.0)
    assert found.attainable["y"].max == pytest.approx(9.0)


def test_a_class_is_asked_for_by_its_name(api: Api, backsolve: Backsolve) -> None:
    kind = np.where(Y + np.sin(np.arange(60)) > 4, "large", "small")
    dataset = backsolve.upload_table(columns={"size": X[:, 0], "kind": kind})
    job = backsolve.train(dataset.id, "kind", regularization={"l2": 0.01})
    api.run(job.id, 1)
    model = job.wait(30).model()

    found = backsolve.invert(model.id, {"kind": {"class": "large", "probability": 0.6}})

    assert found.solutions[0].label == "large"
    assert found.solutions[0].prediction["kind=small"] <= 0.4 + 1e-6


def test_a_mistake_in_a_question_is_pointed_at(backsolve: Backsolve, model: Model) -> None:
    with pytest.raises(Invalid) as caught:
        backsolve.invert(model.id, {"z": 1.0})

    assert [fault.pointer for fault in caught.value.errors] == ["/target/z"]
