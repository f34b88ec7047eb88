"""Backward over HTTP: every answer is checked by asking predict."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, linprog, minimize

from app.numeric.activations import Array
from tests.builders import Api, Json, plane
from tests.inference.test_predict import kinds


def test_the_answer_attains_the_target_when_predict_is_asked(api: Api) -> None:
    model = api.model_id(api.upload(plane()), ["y"])

    answer = invert(api, model, target={"y": 12.5})

    found = only_solution(answer)
    assert (answer["status"], answer["method"], found["verified"]) == ("optimal", "exact", True)
    assert predicted(api, model, found["input"])["y"] == pytest.approx(12.5, abs=1e-9)


def test_no_nearer_input_gives_the_target(api: Api) -> None:
    """Against scipy's SLSQP on the same question in the same units."""
    table = plane(noise=0.5)
    model = api.model_id(api.upload(table), ["y"])
    described = api.get(f"/v1/models/{model}")["inputs"]
    scale = np.array([column["scale"] for column in described])
    parameters = api.get(f"/v1/models/{model}/parameters")
    w, b = np.array(parameters["w"])[0], parameters["b"][0]
    start = np.array([10.0, 0.5])

    answer = invert(
        api,
        model,
        start={"a": 10.0, "c": 0.5},
        target={"y": 20.0},
        features={"c": {"min": 0.0, "max": 0.6}},
    )

    peer = minimize(
        squared_length,
        np.zeros(2),
        method="SLSQP",
        constraints=LinearConstraint(w * scale, 20.0 - b - w @ start, 20.0 - b - w @ start),
        bounds=Bounds([-np.inf, -0.5 / scale[1]], [np.inf, 0.1 / scale[1]]),
        tol=1e-14,
    )
    assert only_solution(answer)["distance"]["l2"] == pytest.approx(np.sqrt(peer.fun), rel=1e-6)


@pytest.mark.parametrize("method", ["exact", "gradient"])
def test_frozen_inputs_and_bounds_are_respected_to_the_last_bit(api: Api, method: str) -> None:
    model = api.model_id(api.upload(three_inputs()), ["y"])

    answer = invert(
        api,
        model,
        start={"a": 0.3, "c": 0.1, "d": 0.7},
        target={"y": 2.5},
        features={"a": {"frozen": True}, "c": {"min": -0.2, "max": 0.3}},
        method=method,
    )

    found = only_solution(answer)
    assert found["verified"]
    assert found["input"]["a"] == 0.3
    assert -0.2 <= found["input"]["c"] <= 0.3
    assert "a" not in {change["feature"] for change in found["changes"]}


@pytest.mark.parametrize("method", ["exact", "gradient"])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "softplus"])
def test_curved_activations_invert_both_ways(api: Api, activation: str, method: str) -> None:
    model = api.model_id(api.upload(three_inputs(activation)), ["y"], activation=activation)

    answer = invert(api, model, target={"y": 0.6}, method=method, tolerance=1e-8)

    found = only_solution(answer)
    assert found["verified"]
    assert predicted(api, model, found["input"])["y"] == pytest.approx(0.6, abs=1e-8)


def test_gradient_inversion_returns_a_falling_trace(api: Api) -> None:
    model = api.model_id(api.upload(three_inputs("sigmoid")), ["y"], activation="sigmoid")

    answer = invert(api, model, target={"y": 0.9}, method="gradient", trace=True)

    costs = answer["trace"]["cost"]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < 1e-12


def test_relu_is_inverted_by_gradient_and_refused_by_exact(api: Api) -> None:
    model = api.model_id(api.upload(three_inputs("softplus")), ["y"], activation="relu")

    answer = invert(api, model, target={"y": 0.9})
    refused = invert(api, model, 422, target={"y": 0.9}, method="exact")

    assert answer["method"] == "gradient"
    assert only_solution(answer)["verified"]
    assert refused["errors"][0]["pointer"] == "/method"


def test_what_cannot_be_reached_is_told_with_what_can(api: Api) -> None:
    """The interval is confirmed by an independent linear program."""
    model = api.model_id(api.upload(plane()), ["y"])
    parameters = api.get(f"/v1/models/{model}/parameters")
    w, b = np.array(parameters["w"])[0], parameters["b"][0]
    bounds = [(0.0, 20.0), (-1.0, 1.0)]

    answer = invert(
        api,
        model,
        target={"y": 100.0},
        features={"a": {"min": 0.0, "max": 20.0}, "c": {"min": -1.0, "max": 1.0}},
    )

    best = b - linprog(-w, bounds=bounds).fun
    assert (answer["status"], answer["solutions"]) == ("infeasible", [])
    told = answer["infeasibility"]
    assert told["attainable"]["y"]["max"] == pytest.approx(best, rel=1e-9)
    assert told["nearest"]["prediction"]["y"] == pytest.approx(best, rel=1e-9)
    assert predicted(api, model, told["nearest"]["input"]) == told["nearest"]["prediction"]


def test_a_value_that_sigma_never_takes_is_refused_with_the_interval(api: Api) -> None:
    model = api.model_id(api.upload(three_inputs("sigmoid")), ["y"], activation="sigmoid")

    problem = invert(api, model, 422, target={"y": 1.0})

    assert problem["errors"][0]["pointer"] == "/target/y"
    assert "between 0 and 1" in problem["detail"]


def test_several_outputs_are_met_at_once_or_left_free(api: Api) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(50, 3))
    table = dict(zip("acd", x.T, strict=True))
    table |= {"p": x @ [1.0, 2.0, 3.0], "q": x @ [1.0, -1.0, 0.5]}
    model = api.model_id(api.upload(table), ["p", "q"])

    both = only_solution(invert(api, model, target={"p": 1.0, "q": 2.0}))
    one = only_solution(invert(api, model, target={"q": 2.0}))

    assert both["prediction"] == pytest.approx({"p": 1.0, "q": 2.0}, abs=1e-9)
    assert one["prediction"]["q"] == pytest.approx(2.0, abs=1e-9)
    assert one["distance"]["l2"] <= both["distance"]["l2"] + 1e-12


def test_categories_stay_at_their_start_and_the_answer_says_so(api: Api) -> None:
    model = api.model_id(api.upload(kinds()), ["y"])

    answer = invert(api, model, start={"kind": "v"}, target={"y": 4.0})

    assert only_solution(answer)["input"]["kind"] == "v"
    assert only_solution(answer)["verified"]
    assert any("kind" in warning for warning in answer["warnings"])


def test_the_text_says_what_to_do(api: Api) -> None:
    model = api.model_id(api.upload(plane()), ["y"])

    raised = invert(
        api,
        model,
        start={"a": 1, "c": 0},
        target={"y": 9.0},
        features={"c": {"frozen": True}},
    )
    kept = invert(api, model, start={"a": 1, "c": 0}, target={"y": 7.0})

    assert only_solution(raised)["text"] == "Raise a by 1."
    assert only_solution(kept)["text"] == "Nothing has to change."


BAD_QUESTIONS: list[tuple[str, Json, str, str]] = [
    ("no target", {"target": {}}, "/target", "at least 1"),
    ("unknown output", {"target": {"z": 1}}, "/target/z", "It has: y"),
    ("unknown input in from", {"from": {"z": 1}}, "/from/z", "It has: kind, a"),
    ("unknown feature", {"features": {"z": {}}}, "/features/z", "It has: kind, a"),
    ("unknown level", {"from": {"kind": "w"}}, "/from/kind", "u, v"),
    ("bounds of a category", {"features": {"kind": {"min": 1}}}, "/features/kind", "category"),
    ("crossed bounds", {"features": {"a": {"min": 2, "max": 1}}}, "/features/a", "above max"),
    (
        "frozen outside its bounds",
        {"from": {"a": 9}, "features": {"a": {"frozen": True, "max": 5}}},
        "/features/a",
        "frozen at 9",
    ),
    ("an interval", {"target": {"y": {"min": 3}}}, "/target/y", "number"),
    ("a constraint", {"constraints": []}, "/constraints", "not permitted"),
    ("steps beyond the limit", {"steps_max": 10**9}, "/steps_max", "many"),
]


@pytest.mark.parametrize(
    ("change", "pointer", "part"),
    [row[1:] for row in BAD_QUESTIONS],
    ids=[row[0] for row in BAD_QUESTIONS],
)
def test_a_question_that_does_not_fit_is_refused_by_name(
    api: Api, change: Json, pointer: str, part: str
) -> None:
    model = api.model_id(api.upload(kinds()), ["y"])

    question: Json = {"target": {"y": 4.0}} | change
    problem = api.post(f"/v1/models/{model}/invert", question, 422)

    found = [fault for fault in problem["errors"] if fault["pointer"] == pointer]
    assert found, problem
    assert part in found[0]["detail"]


def squared_length(step: Array) -> float:
    return float(step @ step)


def three_inputs(activation: str = "identity") -> dict[str, Any]:
    x = np.random.default_rng(2).normal(size=(80, 3))
    z = x @ [1.0, -0.5, 0.8] + 0.2
    outputs: dict[str, Callable[[], Array]] = {
        "identity": lambda: z,
        "sigmoid": lambda: 1 / (1 + np.exp(-z)),
        "tanh": lambda: np.tanh(z),
        "softplus": lambda: np.log1p(np.exp(z)),
    }
    return {"a": x[:, 0], "c": x[:, 1], "d": x[:, 2], "y": outputs[activation]()}


def invert(
    api: Api,
    model: str,
    status: int = 200,
    *,
    start: Json | None = None,
    trace: bool = False,
    **question: Any,
) -> Json:
    if start is not None:
        question["from"] = start
    if trace:
        question["return"] = ["trace"]
    return api.post(f"/v1/models/{model}/invert", question, status)


def predicted(api: Api, model: str, row: Json) -> Json:
    prediction: Json = api.post(f"/v1/models/{model}/predict", {"rows": [row]})["predictions"][0][
        "y"
    ]
    return prediction


def only_solution(answer: Json) -> Json:
    assert len(answer["solutions"]) == 1, answer
    solution: Json = answer["solutions"][0]
    return solution
