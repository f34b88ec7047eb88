"""Backward: from a wanted output to an input, checked forward before it is given."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from app.errors import Fault, InvalidInput
from app.inference import explanations, wire
from app.inference.attainable import attainable_of
from app.inference.descent import by_gradient
from app.inference.explanations import told
from app.inference.goals import nearest_best
from app.inference.inversion_schemas import Answer, InvertIn, TargetIn
from app.inference.questions import (
    Asked,
    Item,
    asked_of,
    level_faults,
    limits_of,
    questions_of,
    starts_of,
    target_faults,
)
from app.inference.rules import Rules, rules_of
from app.inference.unreachable import out_of_reach
from app.models.trained_model import TrainedModel
from app.numeric.activations import Array
from app.numeric.errors import NumericError
from app.numeric.inversion import solve
from app.numeric.inversion.batch import nearest_of_each
from app.numeric.inversion.program import Clock
from app.numeric.inversion.question import Answer as Found
from app.numeric.inversion.question import Status
from app.numeric.inversion.wishes import Wanted

NOTHING = {
    Status.TIME_LIMIT: "Nothing was found or excluded in time. Raise time_limit_seconds.",
    Status.UNBOUNDED: "There is no largest value: give the inputs a min and a max.",
}


def invert(model: TrainedModel, body: InvertIn, *, steps_max: int, seconds_max: float) -> Answer:
    """The answer's body. Raises InvalidInput for a question that does not fit the model."""
    clock = Clock(min(body.time_limit_seconds, seconds_max))
    require_fitting(model, body, steps_max=steps_max)
    faults: list[Fault] = []
    rules = rules_of(model, body, faults)
    asked = all_asked(model, body, rules, faults)
    identity = {"model_id": model.id, "model_version": model.version}
    if body.frontier is not None:
        return identity | frontier(model, body, rules, asked, clock)
    results = all_results(model, body, rules, asked, clock)
    return identity | ({"results": results} if body.items is not None else results[0])


def require_fitting(model: TrainedModel, body: InvertIn, *, steps_max: int) -> None:
    """Raises InvalidInput for fields that do not go together."""
    faults = []
    if body.steps_max > steps_max:
        faults.append(Fault(f"At most {steps_max:,} steps are allowed here.", "/steps_max"))
    if body.items is not None and body.frontier is not None:
        faults.append(Fault("Give items or a frontier, not both.", "/frontier"))
    if body.frontier is not None and body.frontier.output not in model.output_names:
        known = ", ".join(model.output_names[:20])
        detail = f"{body.frontier.output[:80]!r} is no output of this model. It has: {known}."
        faults.append(Fault(detail, "/frontier/output"))
    if body.method == "gradient":
        features = body.features.values()
        whole = any(feature.step or feature.integer for feature in features)
        for wrong, pointer, what in (
            (body.constraints, "/constraints", "constraints"),
            (body.max_changed is not None, "/max_changed", "max_changed"),
            (body.k > 1, "/k", "more than one answer"),
            (whole, "/features", "steps"),
            (body.robust_epsilon, "/robust_epsilon", "robust_epsilon"),
            (body.frontier is not None, "/frontier", "frontier"),
        ):
            if wrong:
                detail = f"The gradient knows no {what}. Use method 'auto'."
                faults.append(Fault(detail, pointer))
    if faults:
        raise wire.invalid(faults)


def all_asked(
    model: TrainedModel, body: InvertIn, rules: Rules, faults: list[Fault]
) -> list[Asked]:
    """Every question of the body. Raises InvalidInput with every fault in it."""
    wanted = list(asked_for(body))
    for item in {id(item.targets): item for item in wanted}.values():
        faults += target_faults(model, body, item.targets, item.pointer)
    starts = starts_of(model, [(item.start, item.start_pointer) for item in wanted], faults)
    if faults:
        raise wire.invalid(list(dict.fromkeys(faults)))
    limits = limits_of(rules, starts, faults)
    faults += level_faults(rules, starts, held=body.method == "gradient")
    if faults:
        raise wire.invalid(list(dict.fromkeys(faults)))
    questions = questions_of(model, body, rules, starts, limits)
    raw = zip(starts, limits.low, limits.high, strict=True)
    return [
        asked_of(model, body, question, ends, item)
        for question, ends, item in zip(questions, raw, wanted, strict=True)
    ]


def asked_for(body: InvertIn) -> Iterator[Item]:
    """One item, or those of `items` or `frontier`."""
    whole = Item(body.start, "/from", body.target, "/target", pointers_to(body.target, "/target"))
    if body.frontier is not None:
        output = body.frontier.output
        for index, value in enumerate(body.frontier.values):
            point = TargetIn.model_validate({body.frontier.bound: value})
            yield whole._replace(
                targets={**body.target, output: point},
                pointers={**whole.pointers, output: f"/frontier/values/{index}"},
            )
    for index, item in enumerate(body.items or ()):
        one = whole
        if item.start is not None:
            one = one._replace(start=item.start, start_pointer=f"/items/{index}/from")
        if item.target is not None:
            at = f"/items/{index}/target"
            one = one._replace(
                targets=item.target, pointer=at, pointers=pointers_to(item.target, at)
            )
        yield one
    if body.items is None and body.frontier is None:
        yield whole


def pointers_to(targets: Mapping[str, TargetIn], pointer: str) -> dict[str, str]:
    return {name: f"{pointer}/{wire.escaped(name)}" for name in targets}


def all_results(
    model: TrainedModel, body: InvertIn, rules: Rules, asked: Sequence[Asked], clock: Clock
) -> list[Answer]:
    """A result for each question: in closed form where that serves, else one after the other."""
    results: list[Answer] = []
    quick = closed_form_solutions(model, body, rules, asked)
    for one, solution in zip(asked, quick, strict=True):
        if solution is not None:
            results.append(told(Status.OPTIMAL, "closed_form", 0.0, [solution]))
        elif results and not clock.seconds:
            # The first is always begun: many questions are answered before time is looked at.
            method = "gradient" if body.method == "gradient" else method_of(one)
            warnings = [NOTHING[Status.TIME_LIMIT]]
            results.append(told(Status.TIME_LIMIT, method, None, [], warnings=warnings))
        else:
            results.append(result(model, body, rules, one, clock))
    return results


def method_of(asked: Asked) -> str:
    """How a question is answered where there is no shortcut."""
    continuous = asked.question.is_continuous
    if asked.question.nearness == "l2":
        return "qp" if continuous else "miqp"
    return "lp" if continuous else "milp"


def closed_form_solutions(
    model: TrainedModel, body: InvertIn, rules: Rules, asked: Sequence[Asked]
) -> list[Answer | None]:
    """The solution of each question that closed form serves, all checked at once."""
    found = closed_form(body, asked)
    places = [index for index, x in enumerate(found) if x is not None]
    checked = explanations.checked(
        model, rules, [asked[index] for index in places], [x for x in found if x is not None]
    )
    solutions: list[Answer | None] = [None] * len(asked)
    for index, one in zip(places, checked, strict=True):
        solutions[index] = explanations.solution(model, body, rules, asked[index], one, None)
    return solutions


def closed_form(body: InvertIn, asked: Sequence[Asked]) -> list[Array | None]:
    """The x of questions with one condition and nothing to be counted; None for others."""
    answers: list[Array | None] = [None] * len(asked)
    if body.method != "auto" or body.k > 1 or body.returned or body.constraints:
        return answers
    places = [
        index
        for index, one in enumerate(asked)
        if one.question.nearness == "l2"
        and one.question.is_continuous
        and len(one.wanted.conditions.low) == 1
        and not one.wanted.curved
        and not one.goals.any()
        and np.array_equal(one.wanted.conditions.a, asked[0].wanted.conditions.a)
    ]
    if not places:
        return answers
    questions = [asked[index].question for index in places]
    wishes = [asked[index].wanted.conditions for index in places]
    for index, x in zip(places, nearest_of_each(questions, wishes), strict=True):
        answers[index] = x
    return answers


def result(model: TrainedModel, body: InvertIn, rules: Rules, asked: Asked, clock: Clock) -> Answer:
    """The result of one question."""
    if body.method == "gradient":
        return by_gradient(model, body, rules, asked, clock)
    found, wanted = nearest(model, rules, asked, clock)
    if found.x is None:
        if found.status is Status.INFEASIBLE:
            return out_of_reach(model, body, rules, asked, found, clock)
        return told(found.status, found.method, None, [], warnings=[NOTHING[found.status]])
    answers = [found]
    if body.k > 1:
        answers = solve.alternatives(model.layer, asked.question, wanted, found, body.k, clock)
    checked = explanations.checked(
        model,
        rules,
        [asked] * len(answers),
        [answer.x for answer in answers if answer.x is not None],
    )
    solutions = [
        explanations.solution(model, body, rules, asked, one, answer.prices)
        for one, answer in zip(checked, answers, strict=True)
    ]
    return told(found.status, found.method, found.gap, solutions)


def nearest(model: TrainedModel, rules: Rules, asked: Asked, clock: Clock) -> tuple[Found, Wanted]:
    """The nearest answer, and what was wanted of it. Raises InvalidInput without needed limits."""
    try:
        if asked.goals.any():
            return nearest_best(model, asked, clock)
        return solve.nearest(model.layer, asked.question, asked.wanted, clock), asked.wanted
    except NumericError:
        numbers = asked.question.numbers
        endless = np.isinf(numbers.low) | np.isinf(numbers.high)
        name = rules.numbers[int(endless.argmax())].item.name
        detail = f"max_changed needs limits, and {name!r} has none: give it a min and a max."
        at = f"/features/{wire.escaped(name)}"
        raise InvalidInput(detail, [Fault(detail, at, column=name)]) from None


def frontier(
    model: TrainedModel, body: InvertIn, rules: Rules, asked: Sequence[Asked], clock: Clock
) -> Answer:
    """What each target costs, in order; what time does not allow is told as such."""
    if body.frontier is None:
        raise ValueError("no frontier is asked for")
    quick = closed_form_solutions(model, body, rules, asked)
    points = [
        point_of(model, body, rules, one, solution, clock)
        for one, solution in zip(asked, quick, strict=True)
    ]
    for point, value in zip(points, body.frontier.values, strict=True):
        point["target"] = value
    return {
        "output": body.frontier.output,
        "attainable": attainable_of(model, asked[0].question, clock),
        "frontier": points,
    }


def point_of(
    model: TrainedModel,
    body: InvertIn,
    rules: Rules,
    asked: Asked,
    solution: Answer | None,
    clock: Clock,
) -> Answer:
    """A point of the frontier, without the target that it is for."""
    status, gap = Status.OPTIMAL, 0.0
    if solution is None:
        found, _ = nearest(model, rules, asked, clock)
        status, gap = found.status, found.gap
        if found.x is not None:
            checked = explanations.checked(model, rules, [asked], [found.x])[0]
            solution = explanations.solution(model, body, rules, asked, checked, found.prices)
    return {
        "status": status,
        "cost": None if solution is None else solution["cost"],
        "gap": gap,
        "solution": solution,
    }
