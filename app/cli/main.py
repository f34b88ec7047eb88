"""python -m app COMMAND"""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

app = typer.Typer(
    name="backsolve",
    help="Train one dense layer over HTTP and run it both ways.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

WithParent = Annotated[bool, typer.Option("--with-parent", hidden=True)]
Port = Annotated[int, typer.Option(min=0, max=65535)]


def execute(command: str, **options: object) -> None:
    """Runs the module of a command.

    Each is loaded only when it is asked for: the API must not load Dask, nor the dispatcher
    FastAPI, and a start takes half the time.
    """
    try:
        code = import_module(f"app.cli.{command}").main(**options)
    except ValidationError as error:
        if error.title != "Settings":
            raise
        for fault in error.errors():
            name = "_".join(["BACKSOLVE", *map(str, fault["loc"])]).upper()
            typer.echo(f"{name}: {fault['msg'].removeprefix('Value error, ')}", err=True)
        raise typer.Exit(2) from None
    raise typer.Exit(code)


@app.command()
def run(with_parent: WithParent = False) -> None:
    """Migrate, then run the API and the dispatcher with local workers, until Ctrl-C."""
    execute("run", with_parent=with_parent)


@app.command()
def serve(with_parent: WithParent = False) -> None:
    """Run the API alone."""
    execute("serve", with_parent=with_parent)


@app.command()
def dispatch(with_parent: WithParent = False) -> None:
    """Run the dispatcher alone."""
    execute("dispatch", with_parent=with_parent)


@app.command()
def scheduler(health_port: Port = 8787) -> None:
    """Run the scheduler of several machines, where BACKSOLVE_SCHEDULER_ADDRESS says."""
    execute("cluster", role="scheduler", health_port=health_port)


@app.command()
def worker(port: Port = 0, health_port: Port = 0) -> None:
    """Run a worker of that scheduler; 0 takes a free port."""
    execute("cluster", role="worker", port=port, health_port=health_port)


@app.command()
def certificates(folder: Path) -> None:
    """Make what BACKSOLVE_TLS_DIR needs, in a folder to be copied to every machine."""
    execute("certificates", folder=folder)


@app.command()
def backup(folder: Path) -> None:
    """Copy an SQLite database and its tables while the service runs."""
    execute("backup", folder=folder)


@app.command()
def migrate(
    wait_seconds: Annotated[
        float, typer.Option(help="How long to wait for the database to answer.")
    ] = 60.0,
) -> None:
    """Bring the database to this version's schema."""
    execute("migrate", wait_seconds=wait_seconds)


@app.command()
def demo() -> None:
    """Start the service, run once through all that it does, and stop it."""
    execute("demo")
