"""The solvers: one row of a table each, with what it needs, so that a job can be refused early."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from app.numeric import closed_form, gradient_descent
from app.numeric.activations import ACTIVATIONS
from app.numeric.costs import COSTS
from app.numeric.method import Prepare


class SolverTraits(NamedTuple):
    """What a solver needs (None: anything goes); a direct one ends in one epoch."""

    activations: frozenset[str] | None
    costs: frozenset[str] | None
    direct: bool
    prepare: Prepare


SOLVERS: Mapping[str, SolverTraits] = MappingProxyType(
    {
        "closed_form": SolverTraits(
            activations=frozenset({"identity"}),
            costs=frozenset({"half_squared_error"}),
            direct=True,
            prepare=closed_form.prepare,
        ),
        "gradient_descent": SolverTraits(
            activations=None, costs=None, direct=False, prepare=gradient_descent.prepare
        ),
    }
)


def unsuitable(solver: str, activation: str, cost: str) -> str | None:
    """A sentence that names what is missing and what to use instead, or None if all fits."""
    for kind, name, table in (
        ("solver", solver, SOLVERS),
        ("activation", activation, ACTIVATIONS),
        ("cost", cost, COSTS),
    ):
        if name not in table:
            return f"There is no {kind} {name}; choose one of {', '.join(table)}."
    allowed = COSTS[cost].activations
    if allowed is not None and activation not in allowed:
        return (
            f"Cost {cost} needs activation {_either(allowed)}, not {activation}; "
            "use that activation, or cost half_squared_error."
        )
    traits = SOLVERS[solver]
    needs = (("activation", activation, traits.activations), ("cost", cost, traits.costs))
    for kind, name, allowed in needs:
        if allowed is not None and name not in allowed:
            return (
                f"Solver {solver} needs {kind} {_either(allowed)}, not {name}; "
                f"use solver {choose_solver(activation, cost)[0]}."
            )
    return None


def choose_solver(activation: str, cost: str) -> tuple[str, str]:
    """The solver that `auto` stands for, and a sentence that says why."""
    if activation == "identity" and cost == "half_squared_error":
        return "closed_form", "A linear layer with squared error has its minimum in closed form."
    reason = (
        f"{activation} with {cost} has no closed form; full-batch gradient descent with momentum "
        "serves every activation and cost."
    )
    return "gradient_descent", reason


def _either(names: frozenset[str]) -> str:
    return " or ".join(sorted(names))
