"""What ARCHITECTURE.md promises about the tree and import-linter cannot see."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import ROOT

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
SOURCES = sorted(
    path for folder in ("app", "tests", "alembic") for path in (ROOT / folder).rglob("*.py")
)
APP = [path for path in SOURCES if path.is_relative_to(ROOT / "app")]
VAGUE_NAMES = {"utils", "util", "helpers", "common", "core", "misc", "manager", "base"}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", [*SOURCES, ROOT / "dev.py"], ids=relative)
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > FUNCTION_LINES_MAX
    ]

    assert len(text.splitlines()) <= FILE_LINES_MAX
    # A migration is a list of tables, which is no easier to read in pieces.
    assert not long or path.parent.name == "versions", long


def test_only_one_file_commits() -> None:
    assert files_with(".commit(") == {"app/storage/database.py"}


def test_fastapi_appears_only_at_the_edge() -> None:
    places = {relative(path) for path in APP if "fastapi" in imported_by(path)}

    allowed = {place for place in places if place.startswith(("app/api/", "app/web/"))}
    allowed |= {place for place in places if place.endswith(("/routes.py", "app/main.py"))}
    assert places == allowed


def test_sqlalchemy_appears_only_where_sql_is() -> None:
    places = {relative(path) for path in APP if "sqlalchemy" in imported_by(path)}

    assert {p for p in places if not p.startswith("app/storage/")} == {
        p for p in places if p.endswith("/queries.py")
    }


def test_dask_appears_only_where_jobs_are_delivered() -> None:
    places = {relative(path) for path in APP if {"dask", "distributed"} & set(imported_by(path))}

    assert places == {"app/jobs/delivery.py"}


def test_nothing_is_unpickled_or_evaluated() -> None:
    for word in ("import pickle", "allow_pickle=True", "eval(", "exec(", "yaml.load"):
        assert files_with(word) == set(), word


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert {path.stem for path in APP} & VAGUE_NAMES == set()


def test_every_room_has_something_in_it() -> None:
    for package in {path.parent for path in APP}:
        modules = [path for path in package.glob("*.py") if path.name != "__init__.py"]
        assert (
            modules
            or (package / "__init__.py").read_text().strip()
            or any(child.is_dir() for child in package.iterdir() if child.name != "__pycache__")
        ), package


def test_the_repository_holds_no_path_of_a_machine() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    texts = [ROOT / name for name in listed.stdout.split() if not name.endswith((".csv", ".png"))]

    marked = [
        relative(path)
        for path in texts
        if path.exists()
        and any(word in path.read_text() for word in ("/wo" + "rk/", "/ro" + "ot/"))
    ]

    assert marked == []


def files_with(text: str) -> set[str]:
    return {relative(path) for path in APP if text in path.read_text()}


def imported_by(path: Path) -> Iterator[str]:
    """The top-level names that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]
