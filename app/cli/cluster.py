"""The scheduler, or a worker, of a cluster on several machines."""

import os
from typing import NoReturn

import typer

from app.jobs.cluster_programs import Program, scheduler_program, worker_program
from app.settings import Settings


def main(*, role: str, health_port: int, port: int = 0) -> int:
    """Becomes Dask's program; comes back only if it cannot."""
    settings = Settings()
    if not settings.scheduler_address:
        typer.echo("BACKSOLVE_SCHEDULER_ADDRESS: it has to say where the scheduler is", err=True)
        return 2
    try:
        program = program_of(role, settings, port=port, health_port=health_port)
    except FileNotFoundError as error:
        typer.echo(f"BACKSOLVE_TLS_DIR: there is no {error.filename}", err=True)
        return 2
    return become(program)


def become(program: Program) -> NoReturn:
    os.execve(program.words[0], program.words, program.environment)  # noqa: S606 - our own words


def program_of(role: str, settings: Settings, *, port: int, health_port: int) -> Program:
    if role == "scheduler":
        return scheduler_program(settings, health_port=health_port)
    return worker_program(settings, port=port, health_port=health_port)
