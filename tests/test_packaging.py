"""The image, the compose file and the pinned versions say what they should.

No container engine is needed: the real linter and the real compose parser read the files.
"""

import json
import os
import re
import shutil
import subprocess
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROGRAMS = Path(sysconfig.get_path("scripts"))
ONE_SHOT = {"migrate"}


def run(program: str, *words: str, cwd: Path) -> str:
    done = subprocess.run(
        [PROGRAMS / program, *words],
        cwd=cwd,
        env={"PATH": os.defpath, "HOME": str(cwd)},
        capture_output=True,
        text=True,
        check=False,
    )
    # A warning of the compose parser is a mistake too, and it goes to stderr with code 0.
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=["without .env", "with .env.example as .env"])
def compose(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The compose file as Docker will understand it, in a folder with no other settings."""
    folder = tmp_path_factory.mktemp("compose")
    shutil.copy(ROOT / "docker-compose.yml", folder)
    if request.param.startswith("with .env."):
        shutil.copy(ROOT / ".env.example", folder / ".env")
    return json.loads(run("docker-compose", "config", "--format", "json", cwd=folder))


@pytest.fixture(scope="module")
def services(compose: Any) -> dict[str, Any]:
    return dict(compose["services"])


def pins(name: str) -> dict[str, set[str]]:
    """The versions that a constraints file pins, by package."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / name).read_text().splitlines():
        if match := re.match(r"([\w.-]+)==(\S+)", line):
            found.setdefault(canonicalize_name(match[1]), set()).add(match[2])
    return found


def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text()


def test_the_dockerfile_passes_its_linter() -> None:
    run("hadolint", "Dockerfile", cwd=ROOT)


def test_the_image_starts_as_a_numbered_user_without_root() -> None:
    users = re.findall(r"^USER (\S+)$", dockerfile(), re.MULTILINE)

    assert users
    assert all(re.fullmatch(r"[1-9]\d*:[1-9]\d*", user) for user in users)


def test_the_dockerfile_needs_no_frontend_from_a_registry() -> None:
    assert not re.search(r"^#\s*syntax\s*=", dockerfile(), re.MULTILINE | re.IGNORECASE)


def test_the_image_holds_only_what_runs() -> None:
    admitted = (ROOT / ".dockerignore").read_text().splitlines()

    assert admitted[0] == "*"
    for words in re.findall(r"^COPY (?!--from)(.+)$", dockerfile(), re.MULTILINE):
        for source in words.split()[:-1]:
            assert f"!{source}" in admitted
            assert (ROOT / source).exists()


def test_the_image_checks_its_health_with_time_to_answer() -> None:
    assert re.search(r"^HEALTHCHECK .*--timeout=10s .*--start-period=", dockerfile(), re.MULTILINE)


def test_the_services_are_the_documented_ones(services: dict[str, Any]) -> None:
    assert set(services) == {"postgres", "migrate", "api", "dispatcher", "scheduler", "worker"}


def test_every_long_running_service_is_watched_and_restarted(services: dict[str, Any]) -> None:
    for name in set(services) - ONE_SHOT:
        health = services[name]["healthcheck"]
        assert health["test"][0] == "CMD", name
        assert health["timeout"] == "10s", name
        assert {"interval", "retries", "start_period"} <= set(health), name
        assert services[name]["restart"] == "unless-stopped", name
        assert "stop_grace_period" in services[name], name


def test_only_the_api_is_published_and_only_on_loopback(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}

    assert set(published) == {"api"}
    assert [port["host_ip"] for port in published["api"]] == ["127.0.0.1"]


def test_only_the_api_has_a_way_outside(compose: Any, services: dict[str, Any]) -> None:
    assert compose["networks"]["inside"]["internal"] is True
    for name, service in services.items():
        expected = {"inside", "outside"} if name == "api" else {"inside"}
        assert set(service["networks"]) == expected, name


def test_scheduler_and_workers_are_started_by_the_commands_that_know_what_jobs_need(
    services: dict[str, Any],
) -> None:
    """`--no-nanny`, no limits of Dask's, one thread, TLS where it is set: all is in there."""
    for name in ("scheduler", "worker"):
        assert services[name]["command"][:4] == ["python", "-m", "app", name]
        ours = services[name]["environment"]["BACKSOLVE_SCHEDULER_ADDRESS"]
        assert ours == services["dispatcher"]["environment"]["BACKSOLVE_SCHEDULER_ADDRESS"]


def test_any_service_can_be_scaled(services: dict[str, Any]) -> None:
    assert not any("container_name" in service for service in services.values())


def test_one_image_is_built_once_and_never_pulled(services: dict[str, Any]) -> None:
    ours = {name: service for name, service in services.items() if name != "postgres"}
    builders = {name for name, service in ours.items() if "build" in service}

    assert len({service["image"] for service in ours.values()}) == 1
    assert builders == {"migrate"}
    assert ours["migrate"]["pull_policy"] == "build"
    for name in set(ours) - builders:
        assert ours[name]["pull_policy"] == "never", name
        # Whatever part is started alone, the builder comes with it.
        assert "migrate" in ours[name]["depends_on"], name


def test_containers_are_read_only_and_without_privileges(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert int(service["mem_limit"]) > 0, name
        assert "privileged" not in service, name


def test_data_lives_in_named_volumes(compose: Any, services: dict[str, Any]) -> None:
    mounted = [volume for service in services.values() for volume in service["volumes"]]

    assert set(compose["volumes"]) == {"pgdata", "data"}
    assert {volume["type"] for volume in mounted} == {"volume"}
    for name in ("api", "dispatcher", "worker"):
        assert [volume["source"] for volume in services[name]["volumes"]] == ["data"], name


def test_the_example_settings_name_every_variable_of_the_compose_file() -> None:
    used = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    named = set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))

    assert used == named


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-dev.txt"])
def test_every_pin_has_a_hash_and_names_no_place(name: str) -> None:
    text = (ROOT / name).read_text()

    assert "://" not in text
    for block in re.split(r"\n(?=\w)", text)[1:]:
        assert re.match(r"[\w.-]+==[^\\]+\\\n    --hash=sha256:[0-9a-f]{64}", block), block


def test_the_pins_satisfy_every_dependency_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {
        "constraints.txt": project["dependencies"],
        "constraints-dev.txt": project["dependencies"] + project["optional-dependencies"]["dev"],
    }

    for name, dependencies in asked.items():
        pinned = pins(name)
        for requirement in map(Requirement, dependencies):
            versions = pinned.get(canonicalize_name(requirement.name), set())
            assert versions, f"{name} does not pin {requirement.name}: see CONTRIBUTING.md"
            assert all(requirement.specifier.contains(version) for version in versions), requirement


def test_tests_run_on_the_versions_that_are_shipped() -> None:
    shipped, tested = pins("constraints.txt"), pins("constraints-dev.txt")

    assert shipped.items() <= tested.items()


def test_ci_can_start() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
