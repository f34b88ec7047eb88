"""The faults of a storm, a row each: how often, and what is done."""

import os
import signal
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import psycopg
from sqlalchemy import make_url

from app.settings import Settings
from tests.storm.machine import Child, Machine

FROZEN_LEASES = 2.5


class Fault(NamedTuple):
    weight: int
    strike: Callable[[Machine], bool]


def kill_worker(machine: Machine) -> bool:
    return signalled(machine, busy(machine), signal.SIGKILL)


def stop_worker(machine: Machine) -> bool:
    """As `docker stop` does: it gives its job back."""
    return signalled(machine, busy(machine), signal.SIGTERM)


def kill_api(machine: Machine) -> bool:
    return signalled(machine, machine.of("api"), signal.SIGKILL)


def kill_dispatcher(machine: Machine) -> bool:
    return signalled(machine, machine.of("dispatcher"), signal.SIGKILL)


def freeze_worker(machine: Machine) -> bool:
    """Beyond its lease; then it wakes, and does not know that it has lost its job."""
    found = busy(machine)
    if found:
        seconds = FROZEN_LEASES * machine.plan.settings.lease_seconds
        machine.freeze(machine.chance.choice(found), seconds)
    return bool(found)


def restart_scheduler(machine: Machine) -> bool:
    """It has forgotten what it was to deliver, and does not know that workers are at work."""
    machine.generation += 1
    machine.pending.clear()
    return True


def deliver_twice(machine: Machine) -> bool:
    machine.twice = True
    return True


def strike_database(machine: Machine) -> bool:
    """PostgreSQL crashes and recovers; of SQLite, somebody else holds the only write lock."""
    settings = machine.plan.settings
    if settings.resolved_database_url.startswith("sqlite"):
        machine.start("locker")
        return True
    return kill_backend(settings, machine)


def kill_backend(settings: Settings, machine: Machine) -> bool:
    """One process of PostgreSQL dies; the server ends all others, recovers, and starts again."""
    url = make_url(settings.resolved_database_url).set(drivername="postgresql")
    try:
        with psycopg.connect(url.render_as_string(hide_password=False)) as connection:
            found = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid()"
            ).fetchall()
    except psycopg.OperationalError:
        return False
    if found:
        os.kill(machine.chance.choice(found)[0], signal.SIGKILL)
    return bool(found)


FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        "kill_worker": Fault(50, kill_worker),
        "stop_worker": Fault(7, stop_worker),
        "freeze_worker": Fault(25, freeze_worker),
        "kill_api": Fault(10, kill_api),
        "kill_dispatcher": Fault(6, kill_dispatcher),
        "restart_scheduler": Fault(4, restart_scheduler),
        "deliver_twice": Fault(8, deliver_twice),
        "strike_database": Fault(5, strike_database),
    }
)


def strike(machine: Machine) -> str | None:
    """The name of what was done, if there was anything to do it to."""
    names = list(FAULTS)
    weights = [fault.weight for fault in FAULTS.values()]
    name = machine.chance.choices(names, weights)[0]
    return name if FAULTS[name].strike(machine) else None


def busy(machine: Machine) -> list[Child]:
    return [child for child in machine.workers() if child.running is not None]


def signalled(machine: Machine, found: list[Child], number: int) -> bool:
    if not found:
        return False
    os.kill(machine.chance.choice(found).pid, number)
    return True
