"""The solvers: one row of a table each, with what it needs, so that a job can be refused early."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from app.numeric import (
    closed_form,
    first_order,
    lbfgs,
    levenberg_marquardt,
    newton,
    proximal_newton,
)
from app.numeric.activations import ACTIVATIONS
from app.numeric.costs import COSTS, is_bounded
from app.numeric.method import Prepare

# Measured: where a full Hessian of m (n + 1) unknowns costs more than it saves, and where the
# Cholesky factor of an (n + 1)-sided matrix does.
FULL_HESSIAN_SIDE_MAX = 60
BLOCK_HESSIAN_SIDE_MAX = 60
GRAM_SIDE_MAX = 4000
# So many times more rows than parameters make a sample of them a good model of all.
TALL = 1000


class Problem(NamedTuple):
    """What a solver is judged by; `options` are the settings that were given explicitly."""

    activation: str
    cost: str
    rows: int
    inputs: int
    outputs: int
    in_memory: bool = True
    scaled: bool = True
    sparse_penalty: bool = False
    options: frozenset[str] = frozenset()

    @property
    def side(self) -> int:
        """Parameters of one output: n + 1."""
        return self.inputs + 1


class Need(NamedTuple):
    """Something that a solver needs: does a problem have it, and how to say so."""

    met: Callable[[Problem], bool]
    text: str


def _is_convex_elementwise(problem: Problem) -> bool:
    return COSTS[problem.cost].second_derivative.get(problem.activation) is not None


class SolverTraits(NamedTuple):
    """What a solver needs (names of NEEDS), reads of the settings, and is good for.

    `first_order`: it does not know when it has arrived; quiet epochs end it.
    """

    needs: tuple[str, ...]
    options: frozenset[str]
    first_order: bool
    prepare: Prepare
    when: str


NEEDS: Mapping[str, Need] = MappingProxyType(
    {
        "least_squares": Need(
            lambda p: (p.activation, p.cost) == ("identity", "half_squared_error"),
            "activation identity with cost half_squared_error",
        ),
        "squared_error": Need(
            lambda p: p.cost == "half_squared_error" and ACTIVATIONS[p.activation].elementwise,
            "cost half_squared_error with an activation that works on each output alone",
        ),
        "convex_cost": Need(
            lambda p: p.activation in COSTS[p.cost].second_derivative,
            "a cost that is convex: identity with half_squared_error or huber, sigmoid or softmax "
            "with cross_entropy, exp with poisson",
        ),
        "bounded_curvature": Need(
            lambda p: is_bounded(p.activation, p.cost) or _is_convex_elementwise(p),
            "a cost whose curvature has a bound",
        ),
        "smooth_penalty": Need(
            lambda p: not p.sparse_penalty, "no l1 penalty and no limit on the weights"
        ),
        "memory": Need(
            lambda p: p.in_memory, "training rows that fit into the memory allowed for training"
        ),
    }
)
RATE_OPTIONS = frozenset({"learning_rate", "batch_size", "schedule", "clip_norm"})

SOLVERS: Mapping[str, SolverTraits] = MappingProxyType(
    {
        "closed_form": SolverTraits(
            ("least_squares", "smooth_penalty"),
            frozenset(),
            False,
            closed_form.prepare,
            "least squares: the exact minimum in one step, by a Gram matrix and its Cholesky "
            "factor, or by orthogonal factors where the data are badly conditioned",
        ),
        "levenberg_marquardt": SolverTraits(
            ("squared_error", "smooth_penalty"),
            frozenset(),
            False,
            levenberg_marquardt.prepare,
            "squared error with a curved activation: gets out of saturation, does not care how "
            "the inputs are scaled; each output has a damping of its own",
        ),
        "newton": SolverTraits(
            ("convex_cost", "smooth_penalty"),
            frozenset(),
            False,
            newton.prepare,
            "convex costs with few inputs, or very many rows: a handful of steps; on tall tables "
            "the curvature comes from a sample of the rows",
        ),
        "lbfgs": SolverTraits(
            ("smooth_penalty",),
            frozenset(),
            False,
            lbfgs.prepare,
            "everything smooth: L-BFGS, preconditioned with the Gram matrix of the inputs",
        ),
        "proximal_newton": SolverTraits(
            ("bounded_curvature",),
            frozenset(),
            False,
            proximal_newton.prepare,
            "`l1`, elastic net and `non_negative`: weights that are exactly 0",
        ),
        "gradient_descent": SolverTraits(
            (),
            RATE_OPTIONS,
            True,
            first_order.gradient_descent,
            "the textbook rule, on all rows or on mini-batches",
        ),
        "momentum": SolverTraits(
            (),
            RATE_OPTIONS | {"momentum"},
            True,
            first_order.momentum,
            "gradient descent with a heavy ball",
        ),
        "nesterov": SolverTraits(
            (),
            RATE_OPTIONS | {"momentum"},
            True,
            first_order.nesterov,
            "gradient descent that looks ahead along its momentum",
        ),
        "adam": SolverTraits(
            ("smooth_penalty",),
            RATE_OPTIONS | {"momentum"},
            True,
            first_order.adam,
            "a rate for each weight, from the size of its slopes",
        ),
    }
)


class Choice(NamedTuple):
    """A row of what `auto` picks: the first that applies."""

    applies: Callable[[Problem], bool]
    solver: str
    reason: str


CHOICES: tuple[Choice, ...] = (
    Choice(
        lambda p: p.sparse_penalty and NEEDS["bounded_curvature"].met(p),
        "proximal_newton",
        "Weights that may be exactly 0 are found by coordinates, on a model of the cost.",
    ),
    Choice(
        lambda p: p.sparse_penalty,
        "nesterov",
        "The curvature has no bound here, so the penalty is met by proximal gradient steps.",
    ),
    Choice(
        lambda p: NEEDS["least_squares"].met(p) and p.side <= GRAM_SIDE_MAX,
        "closed_form",
        "A linear layer with squared error has its minimum in closed form.",
    ),
    Choice(
        lambda p: (
            (p.activation, p.cost) == ("softmax", "cross_entropy")
            and p.side * p.outputs <= FULL_HESSIAN_SIDE_MAX
        ),
        "newton",
        "The cost is convex and the layer small enough for its full Hessian: a handful of steps.",
    ),
    Choice(
        lambda p: (
            _is_convex_elementwise(p) and p.cost != "huber" and p.side <= BLOCK_HESSIAN_SIDE_MAX
        ),
        "newton",
        "The cost is convex and there are few inputs: a handful of Newton steps.",
    ),
    Choice(
        lambda p: (
            _is_convex_elementwise(p)
            and p.cost != "huber"
            and p.in_memory
            and p.side <= GRAM_SIDE_MAX
            and p.rows > TALL * p.side
        ),
        "newton",
        "The cost is convex and there are many rows: a sample of them gives the curvature.",
    ),
    Choice(
        lambda p: (
            NEEDS["squared_error"].met(p)
            and ACTIVATIONS[p.activation].smooth
            and not p.scaled
            and p.side <= BLOCK_HESSIAN_SIDE_MAX
        ),
        "levenberg_marquardt",
        "The inputs are not scaled, and Levenberg-Marquardt does not care.",
    ),
    Choice(
        lambda p: p.side <= GRAM_SIDE_MAX,
        "lbfgs",
        "L-BFGS with the Gram matrix of the inputs as preconditioner needs the fewest passes.",
    ),
    Choice(
        lambda _: True,
        "lbfgs",
        "There are too many inputs for a Gram matrix: L-BFGS does without.",
    ),
)


def choose_solver(problem: Problem) -> tuple[str, str]:
    """The solver that `auto` stands for, and a sentence that says why."""
    if problem.options & {"learning_rate", "batch_size", "schedule", "clip_norm", "momentum"}:
        return "momentum", "Its settings are those of gradient descent, so it is taken."
    choice = next(choice for choice in CHOICES if choice.applies(problem))
    return choice.solver, choice.reason


def unsuitable(solver: str, problem: Problem) -> str | None:
    """A sentence that names what is missing and what to use instead, or None if all fits."""
    unknown = _unknown(solver, problem)
    if unknown is not None:
        return unknown
    allowed = COSTS[problem.cost].activations
    if allowed is not None and problem.activation not in allowed:
        return (
            f"Cost {problem.cost} needs activation {_either(allowed)}, not {problem.activation}; "
            "use that activation, or cost half_squared_error."
        )
    instead = f"use solver {choose_solver(problem._replace(options=frozenset()))[0]}"
    traits = SOLVERS[solver]
    for name in traits.needs:
        if not NEEDS[name].met(problem):
            return f"Solver {solver} needs {NEEDS[name].text}; {instead}."
    if not traits.first_order:
        foreign = sorted(problem.options - traits.options)
        if foreign:
            return (
                f"Solver {solver} has no {foreign[0]}; leave it out, or use solver "
                "gradient_descent, momentum, nesterov or adam."
            )
        return None
    return _unsuitable_rate(solver, problem)


def _unsuitable_rate(solver: str, problem: Problem) -> str | None:
    foreign = sorted(problem.options - SOLVERS[solver].options)
    if foreign:
        return f"Solver {solver} has no {foreign[0]}; leave it out, or use solver momentum."
    if "batch_size" not in problem.options:
        return None
    if not problem.in_memory:
        return f"Mini-batches need {NEEDS['memory'].text}; leave batch_size out."
    has_rate = "learning_rate" in problem.options or solver == "adam"
    if has_rate or is_bounded(problem.activation, problem.cost):
        return None
    return (
        f"The curvature of {problem.activation} with {problem.cost} has no bound, so there is no "
        "automatic learning rate for mini-batches: give a learning_rate, or use solver lbfgs."
    )


def _unknown(solver: str, problem: Problem) -> str | None:
    for kind, name, table in (
        ("solver", solver, SOLVERS),
        ("activation", problem.activation, ACTIVATIONS),
        ("cost", problem.cost, COSTS),
    ):
        if name not in table:
            return f"There is no {kind} {name}; choose one of {', '.join(table)}."
    return None


def _either(names: frozenset[str]) -> str:
    return " or ".join(sorted(names))
