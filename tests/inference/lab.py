"""Models to be asked backward, each trained once, and what answers are compared with."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from app.numeric.activations import Array
from tests.builders import Api, Json, plane
from tests.inference.test_predict import kinds
from tests.jobs.flowers import flowers

PENALTY: Json = {"regularization": {"l2": 0.01}}
NUMBERS = ("a", "c", "d")


def three_inputs(activation: str = "identity") -> dict[str, Any]:
    """z = a - 0.5 c + 0.8 d + 0.2."""
    x = np.random.default_rng(2).normal(size=(80, 3))
    z = x @ [1.0, -0.5, 0.8] + 0.2
    outputs: dict[str, Callable[[], Array]] = {
        "identity": lambda: z,
        "sigmoid": lambda: 1 / (1 + np.exp(-z)),
        "tanh": lambda: np.tanh(z),
        "softplus": lambda: np.log1p(np.exp(z)),
        "exp": lambda: np.exp(z),
    }
    return {**dict(zip(NUMBERS, x.T, strict=True)), "y": outputs[activation]()}


def two_outputs() -> dict[str, Any]:
    x = np.random.default_rng(0).normal(size=(50, 3))
    table = dict(zip(NUMBERS, x.T, strict=True))
    return table | {"p": x @ [1.0, 2.0, 3.0], "q": x @ [1.0, -1.0, 0.5]}


def mixed() -> dict[str, Any]:
    """y = 2 a + c + 0.5 d, and 4 more for kind v, 7 more for kind w."""
    random = np.random.default_rng(5)
    a, c, d = random.uniform(0, 10, 90), random.uniform(-3, 3, 90), random.uniform(0, 40, 90)
    kind = np.array(["u", "v", "w"])[np.arange(90) % 3]
    more = np.array([0.0, 4.0, 7.0])[np.arange(90) % 3]
    return {"a": a, "c": c, "d": d, "kind": kind, "y": 2 * a + c + 0.5 * d + more}


def with_gaps() -> dict[str, Any]:
    random = np.random.default_rng(0)
    a, gone = random.normal(size=200), random.random(200) < 0.3
    table = {"a": np.where(gone, "", a.astype(str)), "c": random.normal(size=200)}
    return table | {"y": np.where(gone, 7.0, 2 * a) + table["c"]}


def large() -> dict[str, Any]:
    """y = 100000 + 1000 (2 a - 3 c + 5)."""
    table = plane(80)
    return table | {"y": 1e5 + 1e3 * table["y"]}


SCALED: Json = {
    "preprocessing": {"target_scaling": "min_max"},
    "regularization": {"l2": 1e-6},
}
RECIPES: dict[str, tuple[Callable[[], dict[str, Any]], list[str], Json]] = {
    "plane": (plane, ["y"], {}),
    "noisy plane": (lambda: plane(noise=0.5), ["y"], {}),
    "identity": (three_inputs, ["y"], {}),
    "sigmoid": (lambda: three_inputs("sigmoid"), ["y"], {"activation": "sigmoid"}),
    "tanh": (lambda: three_inputs("tanh"), ["y"], {"activation": "tanh"}),
    "softplus": (lambda: three_inputs("softplus"), ["y"], {"activation": "softplus"}),
    "exp": (lambda: three_inputs("exp"), ["y"], {"activation": "exp"}),
    "relu": (lambda: three_inputs("softplus"), ["y"], {"activation": "relu"}),
    "two outputs": (two_outputs, ["p", "q"], {}),
    "kinds": (kinds, ["y"], {}),
    "forgiving kinds": (
        kinds,
        ["y"],
        {"preprocessing": {"missing": "mean", "unknown_level": "ignore"}},
    ),
    "gaps": (with_gaps, ["y"], {"preprocessing": {"missing": "mean"}}),
    "mixed": (mixed, ["y"], {}),
    "two species": (lambda: flowers(2, gaps=0.0).table, ["species"], PENALTY),
    "three species": (lambda: flowers(3, gaps=0.0).table, ["species"], PENALTY),
    "softmax of two": (
        lambda: flowers(2, gaps=0.0).table,
        ["species"],
        {"activation": "softmax", **PENALTY},
    ),
    "scaled identity": (large, ["y"], {**SCALED, "activation": "identity"}),
    "scaled sigmoid": (large, ["y"], {**SCALED, "activation": "sigmoid"}),
    "scored species": (
        lambda: flowers(3, gaps=0.0).table,
        ["species"],
        {"activation": "identity", "cost": "half_squared_error"},
    ),
}


class Units(NamedTuple):
    """A model of one output of numbers only: y = sigma(w x + b); scale of training."""

    w: Array
    b: float
    scale: Array
    mean: Array
    low: Array
    high: Array


class Lab:
    """The service, and its models by the name of their recipe."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self._models: dict[str, str] = {}

    def model(self, recipe: str) -> str:
        if recipe not in self._models:
            table, targets, options = RECIPES[recipe]
            self._models[recipe] = self.api.model_id(self.api.upload(table()), targets, **options)
        return self._models[recipe]

    def invert(self, recipe: str, status: int = 200, **question: Any) -> Json:
        """`start` stands for `from`, `returned` for `return`."""
        for word, field in (("start", "from"), ("returned", "return")):
            if word in question:
                question[field] = question.pop(word)
        return self.api.post(f"/v1/models/{self.model(recipe)}/invert", question, status)

    def predict(self, recipe: str, row: Json) -> Json:
        """The prediction of one row."""
        path = f"/v1/models/{self.model(recipe)}/predict"
        prediction: Json = self.api.post(path, {"rows": [row]})["predictions"][0]
        return prediction

    def checked(self, recipe: str, **question: Any) -> Json:
        """The only solution, which is verified, and of which predict says what it says."""
        found = only_solution(self.invert(recipe, **question))
        assert found["verified"], found
        self.check(recipe, found)
        return found

    def check(self, recipe: str, found: Json) -> None:
        told = self.predict(recipe, found["input"])
        assert found["prediction"] == told["y"]
        assert found["label"] == told["label"]

    def units(self, recipe: str) -> Units:
        described = self.api.get(f"/v1/models/{self.model(recipe)}")["inputs"]
        parameters = self.api.get(f"/v1/models/{self.model(recipe)}/parameters")
        scale, mean, low, high = (
            np.array([column[field] for column in described])
            for field in ("scale", "mean", "minimum", "maximum")
        )
        return Units(np.array(parameters["w"])[0], parameters["b"][0], scale, mean, low, high)


def only_solution(answer: Json) -> Json:
    assert len(answer["solutions"]) == 1, answer
    solution: Json = answer["solutions"][0]
    return solution


def limits_of(answer: Json) -> Json:
    """The binding limits of an answer's only solution, by name."""
    return {limit["limit"]: limit["price"] for limit in only_solution(answer)["binding"]}
