"""Everything a developer runs: python3 dev.py run | demo | test | check | fix | bench

run            start Backsolve on this machine (API and workers) until Ctrl-C
demo           start it with sample data and walk through training, prediction and inversion
test [--all]   run the tests, --all with the slow ones; further arguments go to pytest
check [--all]  formatting, lint, types, import rules, then the tests: what CI runs, with --all
fix            repair what the formatter and the linter can repair
bench [name]   run the scripts in bench/, or one of them with the options that follow

The first run makes the environment .venv (elsewhere with BACKSOLVE_VENV).
"""

import fcntl
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import time
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 - older Pythons read this far, and get a reason
    sys.exit(f"Backsolve needs Python 3.11 or newer; this is {sys.version.split()[0]}.")

ROOT = Path(__file__).resolve().parent
VENV = Path(os.environ.get("BACKSOLVE_VENV") or ROOT / ".venv").absolute()
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "backsolve-installed"
RUNTIME = [ROOT / "constraints.txt"]
DEVELOPMENT = [ROOT / "constraints.txt", ROOT / "constraints-dev.txt"]

LINTS = {
    "format": ["ruff", "format", "--check"],
    "lint": ["ruff", "check"],
    "types": ["mypy"],
    "imports": ["lint-imports"],
}


def main(arguments: list[str]) -> int:
    command, *rest = arguments or ["help"]
    os.chdir(ROOT)
    if command in ("run", "demo"):
        prepare(RUNTIME)
        os.execv(PYTHON, [str(PYTHON), "-m", "app", command, *rest])
    if command in ("test", "check", "fix", "bench"):
        prepare(DEVELOPMENT)
        return {"test": test, "check": check, "fix": fix, "bench": bench}[command](rest)
    print(__doc__)
    return 0 if command in ("help", "-h", "--help") else 2


def test(rest: list[str]) -> int:
    given = [word for word in rest if word != "--all"]
    chosen = [] if "--all" in rest else ["-m", "not slow"]
    # All of them on two processes; what is asked for by name on one, where it reads more easily.
    spread = [] if given else ["-n", "2", "--dist", "loadscope", "--no-loadscope-reorder"]
    return tool("python", "-m", "pytest", *chosen, *spread, *given)


def check(rest: list[str]) -> int:
    """Every step, also after a failed one, so that one run shows all there is to repair."""
    started = time.monotonic()
    if os.environ.get("CI") == "true":
        rest = [*rest, "--all"]
    failed = []
    for name in (*LINTS, "tests"):
        print(f"== {name}", flush=True)
        step_started = time.monotonic()
        if (tool(*LINTS[name]) if name in LINTS else test(rest)) != 0:
            failed.append(name)
        print(f"   {name}: {time.monotonic() - step_started:.1f} s", flush=True)
    outcome = f"FAILED: {', '.join(failed)}" if failed else "all passed"
    print(f"== check: {outcome}, in {time.monotonic() - started:.0f} s")
    return 1 if failed else 0


def fix(rest: list[str]) -> int:
    remaining = tool("ruff", "check", "--fix", *rest)
    return tool("ruff", "format", *rest) or remaining


def bench(rest: list[str]) -> int:
    scripts = [path.stem for path in sorted(ROOT.glob("bench/[!_]*.py"))]
    name, *options = rest or [""]
    if name and name not in scripts:
        print(f"There is no such benchmark. Those in bench/: {', '.join(scripts)}.")
        return 2
    chosen = [name] if name else scripts
    codes = [tool("python", "-m", f"bench.{script}", *options) for script in chosen]
    return 1 if any(codes) else 0


def tool(name: str, *words: str) -> int:
    with subprocess.Popen([VENV / "bin" / name, *words]) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.wait()  # Ctrl-C reached it too: it stops what it started
            raise


def prepare(locks: list[Path]) -> None:
    """Make VENV hold the packages of `locks`; immediate when it already does."""
    # Two starts at once take turns. A lock on the folder leaves no file, and ends with the process.
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        wanted = [f"{sys.version} in {VENV}".replace("\n", " ")]
        wanted += [hashlib.sha256(lock.read_bytes()).hexdigest() for lock in locks]
        present = STAMP.read_text().splitlines() if STAMP.is_file() and PYTHON.exists() else []
        if present[: len(wanted)] != wanted:
            pip_command = pip(anew=present[:1] != wanted[:1])
            # Gone first and written last: what is interrupted has no stamp, and is made anew.
            STAMP.unlink(missing_ok=True)
            install(locks[-1], pip_command)
            STAMP.write_text("\n".join(wanted))
    finally:
        os.close(folder)


def pip(*, anew: bool) -> list[str]:
    """The command that installs into VENV, which is made first if it has to be."""
    inside = Path(sys.prefix) == VENV
    host = f"{sys.base_prefix}/bin/python3.{sys.version_info.minor}" if inside else sys.executable
    command = [host, "-m", "pip", "--version"]
    answer = subprocess.run(command, check=False, capture_output=True, text=True).stdout
    version = re.match(r"pip (\d+)\.(\d+)", answer)
    has_pip = version is not None and (int(version[1]), int(version[2])) >= (22, 3)
    if not has_pip and importlib.util.find_spec("ensurepip") is None:
        sys.exit(
            f"{host} has neither pip 22.3 or newer nor ensurepip, so nothing can be installed.\n"
            "On Debian and Ubuntu: sudo apt install python3-pip"
        )
    if anew:
        print(f"Making {VENV} with Python {sys.version.split()[0]} ...", flush=True)
        options = ["--clear", "--without-pip"] if has_pip else ["--clear"]
        subprocess.run([host, "-m", "venv", *options, VENV], check=True)
    return [host, "-m", "pip", "--python", str(PYTHON)] if has_pip else [str(PYTHON), "-m", "pip"]


def install(lock: Path, pip_command: list[str]) -> None:
    """Exactly the files named in `lock`: nothing is resolved, every hash is checked."""
    print(f"Installing what {lock.name} names (once; it takes a minute or a few) ...", flush=True)
    options = ["--no-input", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    command = [*pip_command, "install", *options, "--requirement", str(lock)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{done.stdout}{done.stderr}\npip failed, as told above. Run this again to retry.")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
