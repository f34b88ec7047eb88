"""python -m app COMMAND"""

from importlib import import_module
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
