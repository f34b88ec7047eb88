"""The documents say what the code does."""

import re

from app.inference.inversion_schemas import (
    FeatureIn,
    FrontierIn,
    InfeasibilityOut,
    InvertIn,
    SolutionOut,
    TargetIn,
)
from app.jobs.training_spec import TrainingSpec
from app.main import create_app
from app.numeric.activations import ACTIVATIONS
from app.numeric.costs import COSTS
from app.numeric.solvers import SOLVERS
from app.settings import Settings
from tests.servers import ROOT

DOCS = {path.name: path.read_text() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]}


def test_every_setting_is_listed_with_its_default_and_what_it_does() -> None:
    listed = set(re.findall(r"^\| `BACKSOLVE_\w+` .*$", DOCS["operations.md"], re.MULTILINE))

    assert listed == {
        f"| `BACKSOLVE_{name.upper()}` | {shown(field.default)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    }


def shown(default: object) -> str:
    return "" if default == "" else f"`{default}`"


def test_every_operation_is_in_the_page_of_the_api() -> None:
    paths = create_app(Settings()).openapi()["paths"]
    operations = {
        f"`{method.upper()} {path}`" for path, methods in paths.items() for method in methods
    }

    missing = {operation for operation in operations if operation not in DOCS["api.md"]}

    assert missing == set()


def test_every_row_of_the_tables_is_in_the_page_that_helps_to_choose() -> None:
    names = {*ACTIVATIONS, *COSTS, *SOLVERS, "auto"}

    assert {name for name in names if f"| `{name}` |" not in DOCS["choosing.md"]} == set()


def test_every_part_of_a_training_spec_is_explained() -> None:
    assert {
        name for name in TrainingSpec.model_fields if f"`{name}`" not in DOCS["api.md"]
    } == set()


def test_every_field_of_a_question_and_its_answer_is_explained() -> None:
    fields = {
        field.alias or name
        for model in (InvertIn, FeatureIn, TargetIn, FrontierIn, SolutionOut, InfeasibilityOut)
        for name, field in model.model_fields.items()
    }

    assert {name for name in fields if f"`{name}`" not in DOCS["api.md"]} == set()


def test_links_between_pages_lead_somewhere() -> None:
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_readme_begins_with_its_two_commands() -> None:
    commands = re.findall(r"^    (python3 \S+ \w+)", DOCS["README.md"], re.MULTILINE)

    assert commands[:2] == ["python3 dev.py run", "python3 dev.py test"]
