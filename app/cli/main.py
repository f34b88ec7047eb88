"""python -m app COMMAND"""

from typing import Annotated

import typer

from app.cli import demo as demonstration
from app.cli import operate

app = typer.Typer(
    name="backsolve",
    help="Train one dense layer over HTTP and run it both ways.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

WithParent = Annotated[bool, typer.Option("--with-parent", hidden=True)]


@app.command()
def run() -> None:
    """Migrate, then run the API and the dispatcher with local workers, until Ctrl-C."""
    raise typer.Exit(operate.run_everything())


@app.command()
def serve(with_parent: WithParent = False) -> None:
    """Run the API alone."""
    operate.serve(with_parent=with_parent)


@app.command()
def dispatch(with_parent: WithParent = False) -> None:
    """Run the dispatcher alone."""
    raise typer.Exit(operate.run_dispatcher(with_parent=with_parent))


@app.command()
def migrate(
    wait_seconds: Annotated[
        float, typer.Option(help="How long to wait for the database to answer.")
    ] = 60.0,
) -> None:
    """Bring the database to this version's schema."""
    operate.migrate(wait_seconds=wait_seconds)


@app.command()
def demo() -> None:
    """Start the service, run once through all that it does, and stop it."""
    raise typer.Exit(demonstration.run())
