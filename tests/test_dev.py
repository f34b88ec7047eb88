"""dev.py makes its environment when it has to, and only then."""

from pathlib import Path

import pytest

import dev


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What dev.py does to an environment in a folder of its own, with pip and venv recorded."""
    done: list[str] = []

    def pip(*, anew: bool) -> list[str]:
        done.append("made anew" if anew else "kept")
        dev.PYTHON.parent.mkdir(parents=True, exist_ok=True)
        dev.PYTHON.touch()
        return []

    def install(lock: Path, _: list[str]) -> None:
        done.append(f"installed {lock.name}")

    monkeypatch.setattr(dev, "VENV", tmp_path / "venv")
    monkeypatch.setattr(dev, "PYTHON", tmp_path / "venv" / "bin" / "python")
    monkeypatch.setattr(dev, "STAMP", tmp_path / "venv" / "stamp")
    for name in ("RUNTIME", "DEVELOPMENT"):
        locks = [tmp_path / lock.name for lock in getattr(dev, name)]
        monkeypatch.setattr(dev, name, locks)
        for lock in locks:
            lock.write_text("package==1\n")
    monkeypatch.setattr(dev, "pip", pip)
    monkeypatch.setattr(dev, "install", install)
    return done


def test_a_second_start_installs_nothing(calls: list[str]) -> None:
    dev.prepare(dev.RUNTIME)
    dev.prepare(dev.RUNTIME)

    assert calls == ["made anew", "installed constraints.txt"]


def test_the_tools_are_added_to_what_runs_and_serve_it_too(calls: list[str]) -> None:
    dev.prepare(dev.RUNTIME)
    dev.prepare(dev.DEVELOPMENT)
    dev.prepare(dev.RUNTIME)

    # Kept, because the service may be running out of it.
    assert calls[2:] == ["kept", "installed constraints-dev.txt"]


def test_changed_versions_are_installed(calls: list[str]) -> None:
    dev.prepare(dev.RUNTIME)
    dev.RUNTIME[0].write_text("package==2\n")
    dev.prepare(dev.RUNTIME)

    assert calls[2:] == ["kept", "installed constraints.txt"]


def test_an_interrupted_installation_is_made_anew(
    calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(dev, "install", interrupt)
        with pytest.raises(KeyboardInterrupt):
            dev.prepare(dev.RUNTIME)
    dev.prepare(dev.RUNTIME)

    assert calls[1:] == ["made anew", "installed constraints.txt"]


def test_an_environment_without_its_python_is_made_anew(calls: list[str]) -> None:
    dev.prepare(dev.RUNTIME)
    dev.PYTHON.unlink()
    dev.prepare(dev.RUNTIME)

    assert calls[2:] == ["made anew", "installed constraints.txt"]


def test_an_unknown_command_is_refused_with_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    code = dev.main(["runn"])

    assert code == 2
    assert "python3 dev.py run" in capsys.readouterr().out
