"""PyTorch, where it is installed: L-BFGS, Adam, normal equations, and the mini-batch loop."""

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from bench._contestants import Clock, Contestant, Ended, Fit, Limits, Setting
from bench._problem import Problem, start
from bench._tables import Array

LIBRARY = "PyTorch"
ADAM_RATES = (0.1, 0.01)
# PyTorch's own choice, and the usual one: fewer passes, or less work between them.
REMEMBERED_PAIRS = (100, 10)


def load() -> Any | None:
    """The module torch on one thread, or None if it is not installed."""
    if importlib.util.find_spec("torch") is None:
        return None
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(1)
    return torch


class Tensors(NamedTuple):
    """x (N, n), the targets as the loss takes them, and what a loss needs to be computed."""

    torch: Any
    x: Any
    y: Any
    l2: float
    loss: Callable[[Any, Any, Any], Any]


def tensors_of(torch: Any, problem: Problem) -> Tensors:
    """Shares the memory of the arrays; softmax gets class numbers, the quicker form."""
    y = problem.y.argmax(axis=1) if problem.task.activation == "softmax" else problem.y
    x, y = torch.from_numpy(problem.x), torch.from_numpy(np.ascontiguousarray(y))
    return Tensors(torch, x, y, problem.l2, SUMS[problem.loss])


def contestants(torch: Any, problem: Problem) -> list[Contestant]:
    tensors = tensors_of(torch, problem)
    lbfgs = tuple(
        Setting(f"history={pairs}", partial(_lbfgs, tensors, problem, pairs))
        for pairs in REMEMBERED_PAIRS
    )
    adam = tuple(
        Setting(f"lr={rate:g}", partial(_adam, tensors, problem, rate)) for rate in ADAM_RATES
    )
    found = [
        Contestant("LBFGS strong_wolfe", LIBRARY, lbfgs, quickest=True),
        Contestant("Adam, all rows", LIBRARY, adam, quickest=True),
    ]
    if problem.task.activation == "identity":
        direct = Setting("", lambda _: _normal_equations(tensors))
        found.append(Contestant("normal equations", LIBRARY, (direct,)))
    return found


class _Layer(NamedTuple):
    w: Any
    b: Any

    def parameters(self) -> Array:
        w, b = (tensor.detach().double().numpy() for tensor in self)
        return np.hstack((w, b[:, None]))


def _start(torch: Any, problem: Problem) -> _Layer:
    """The layer that every run starts from."""
    parameters = torch.from_numpy(start(problem).astype(problem.x.dtype))
    return _Layer(parameters[:, :-1].clone(), parameters[:, -1].clone())


def _lbfgs(tensors: Tensors, problem: Problem, pairs: int, limits: Limits) -> Fit:
    layer, clock = _start(tensors.torch, problem), limits.clock()
    optimizer = tensors.torch.optim.LBFGS(
        list(layer),
        max_iter=10**6,
        max_eval=10**6,
        history_size=pairs,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )
    return _run(tensors, optimizer, layer, clock, steps=1)


def _adam(tensors: Tensors, problem: Problem, rate: float, limits: Limits) -> Fit:
    layer, clock = _start(tensors.torch, problem), limits.clock()
    optimizer = tensors.torch.optim.Adam(list(layer), lr=rate)
    return _run(tensors, optimizer, layer, clock, steps=10**6)


def _run(tensors: Tensors, optimizer: Any, layer: _Layer, clock: Clock, *, steps: int) -> Fit:
    linear, passes = tensors.torch.nn.functional.linear, 0
    for tensor in layer:
        tensor.requires_grad_()

    def closure() -> Any:
        nonlocal passes
        passes += 1
        optimizer.zero_grad()
        cost = tensors.loss(tensors.torch, linear(tensors.x, *layer), tensors.y) / len(tensors.x)
        if tensors.l2:
            cost = cost + 0.5 * tensors.l2 * layer.w.square().sum()
        clock.look(cost.item())
        cost.backward()
        return cost

    try:
        for _ in range(steps):
            optimizer.step(closure)
    except Ended:
        pass
    return Fit(layer.parameters(), passes)


def _normal_equations(tensors: Tensors) -> Fit:
    """What one writes by hand for least squares: centred, Gram matrix, Cholesky."""
    torch, x, y = tensors.torch, tensors.x, tensors.y
    with torch.inference_mode():
        mean_x, mean_y = x.mean(0), y.mean(0)
        centred = x - mean_x
        factor = torch.linalg.cholesky(centred.T @ centred)
        w = torch.cholesky_solve(centred.T @ (y - mean_y), factor).T
        b = mean_y - w @ mean_x
    return Fit(np.hstack((w.double().numpy(), b.double().numpy()[:, None])), 1)


class Epochs(NamedTuple):
    """`run` goes once over all rows in mini-batches, `parameters` gives P (m, n + 1) after it."""

    run: Callable[[], object]
    parameters: Callable[[], Array]


def nn_epochs(torch: Any, problem: Problem, batch_size: int, rate: float) -> Epochs:
    """The loop of the textbook: torch.nn.Linear, a loss, torch.optim.SGD, rows drawn by index."""
    tensors = tensors_of(torch, problem)
    x, y = tensors.x, tensors.y
    linear = torch.nn.Linear(x.shape[1], problem.y.shape[1], dtype=x.dtype)
    layer = _Layer(linear.weight, linear.bias)
    with torch.no_grad():
        for tensor, value in zip(layer, _start(torch, problem), strict=True):
            tensor.copy_(value)
    optimizer = torch.optim.SGD(linear.parameters(), lr=rate)

    def run() -> None:
        order = torch.randperm(len(x))
        for first in range(0, len(x), batch_size):
            rows = order[first : first + batch_size]
            optimizer.zero_grad()
            loss = tensors.loss(torch, linear(x[rows]), y[rows]) / len(rows)
            loss.backward()
            optimizer.step()

    return Epochs(run, layer.parameters)


def by_hand_epochs(torch: Any, problem: Problem, batch_size: int, rate: float) -> Epochs:
    """The same steps as an expert writes them: no autograd, no optimizer, updates in place."""
    x, y = torch.from_numpy(problem.x), torch.from_numpy(problem.y)
    layer = _start(torch, problem)
    w, b = layer
    forward = FORWARD[problem.loss]

    def run() -> None:
        with torch.inference_mode():
            order = torch.randperm(len(x))
            for first in range(0, len(x), batch_size):
                rows = order[first : first + batch_size]
                batch = x.index_select(0, rows)
                delta = forward(torch, torch.addmm(b, batch, w.t())).sub_(y.index_select(0, rows))
                w.addmm_(delta.t(), batch, alpha=-rate / len(rows))
                b.sub_(delta.sum(0), alpha=rate / len(rows))

    return Epochs(run, layer.parameters)


# The sum over rows of C, from z and the targets.
SUMS: Mapping[str, Callable[[Any, Any, Any], Any]] = MappingProxyType(
    {
        "softmax cross_entropy": lambda torch, z, y: torch.nn.functional.cross_entropy(
            z, y, reduction="sum"
        ),
        "sigmoid cross_entropy": lambda torch, z, y: (
            torch.nn.functional.binary_cross_entropy_with_logits(z, y, reduction="sum")
        ),
        "sigmoid half_squared_error": lambda torch, z, y: (
            0.5 * torch.nn.functional.mse_loss(z.sigmoid(), y, reduction="sum")
        ),
        "identity half_squared_error": lambda torch, z, y: (
            0.5 * torch.nn.functional.mse_loss(z, y, reduction="sum")
        ),
    }
)
# y_hat from z, for the pairs in which dC/dz = y_hat - y: those of the mini-batch race.
FORWARD: Mapping[str, Callable[[Any, Any], Any]] = MappingProxyType(
    {
        "softmax cross_entropy": lambda torch, z: torch.softmax(z, 1),
        "identity half_squared_error": lambda _, z: z,
    }
)
