"""The page of inversion is sent, request by request, and answered as it says."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.inference.inversion_schemas import (
    ConstraintIn,
    FeatureIn,
    FrontierIn,
    InvertIn,
    ItemIn,
    TargetIn,
)
from app.jobs.training_run import run_on
from app.jobs.worker import worker_of
from app.settings import Settings
from tests.builders import Api, checked
from tests.conftest import migrated_url
from tests.servers import ROOT, serving

PAGE = (ROOT / "docs" / "inversion.md").read_text()
CONCRETE = (ROOT / "app" / "cli" / "sample" / "concrete.csv").read_text()
REQUEST = r"^```json invert(?: (?P<model>\w+))?\n(?P<body>.*?)^```\n"
ANSWER = r"\n```json answer\n(?P<answer>.*?)^```\n"
EXAMPLES = [
    pytest.param(
        found["model"] or "concrete",
        found["body"],
        found["answer"],
        id=f"line_{PAGE.count(chr(10), 0, found.start()) + 1}",
    )
    for found in re.finditer(REQUEST + ANSWER, PAGE, re.MULTILINE | re.DOTALL)
]


@pytest.fixture(scope="module")
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder: Path = tmp_path_factory.mktemp("inversion_docs")
    settings = Settings(database_url=migrated_url(request, "sqlite", folder), data_dir=folder)
    worker = worker_of(settings)
    with serving(settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield Api(client, lambda job_id, delivery: run_on(worker, job_id, delivery))
    worker.database.dispose()


@pytest.fixture(scope="module")
def models(api: Api) -> dict[str, str]:
    """The id of each model of the page."""
    penguins = re.findall(r"^```csv\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[0]
    concrete = stored(api, CONCRETE)
    return {
        "concrete": api.model_id(concrete, ["compressive_strength"]),
        "two": api.model_id(concrete, ["compressive_strength", "superplasticizer"]),
        "penguins": api.model_id(stored(api, penguins), ["species"]),
    }


def stored(api: Api, table: str) -> str:
    headers = {"content-type": "text/csv"}
    response = api.client.post("/v1/datasets?name=t", content=table, headers=headers)
    return str(checked(response, 201)["id"])


def test_every_request_of_the_page_has_an_answer() -> None:
    assert len(EXAMPLES) == PAGE.count("```json invert") == PAGE.count("```json answer") > 30


def test_every_part_of_a_question_is_on_the_page() -> None:
    parts = {
        field.alias or name
        for type_ in (InvertIn, TargetIn, FeatureIn, ConstraintIn, ItemIn, FrontierIn)
        for name, field in type_.model_fields.items()
    }

    assert {name for name in parts if f"`{name}`" not in PAGE and f'"{name}"' not in PAGE} == set()


@pytest.mark.parametrize(("model", "body", "answer"), EXAMPLES)
def test_a_request_of_the_page_is_answered_as_it_says(
    api: Api, models: dict[str, str], model: str, body: str, answer: str
) -> None:
    expected = json.loads(answer)
    status = expected["status"] if isinstance(expected.get("status"), int) else 200

    given = api.post(f"/v1/models/{models[model]}/invert", json.loads(body), status)

    assert shortened(given, expected) == expected


def shortened(given: Any, expected: Any) -> Any:
    """What is given, cut to what is expected: that itself wherever the two agree."""
    if isinstance(given, dict) and isinstance(expected, dict):
        return {name: shortened(given.get(name), value) for name, value in expected.items()}
    if isinstance(given, list) and isinstance(expected, list) and len(given) == len(expected):
        return [shortened(*both) for both in zip(given, expected, strict=True)]
    if isinstance(given, str) and isinstance(expected, str) and expected.endswith(" ..."):
        return expected if given.startswith(expected.removesuffix("...")) else given
    if type(expected) in (int, float) and type(given) in (int, float):
        return expected if given == pytest.approx(expected, rel=1e-3, abs=1e-6) else given
    return given
