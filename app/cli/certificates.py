"""The certificates of a cluster."""

from pathlib import Path

import typer

from app.jobs.credentials import make_credentials


def main(*, folder: Path) -> int:
    try:
        expires = make_credentials(folder)
    except FileExistsError as error:
        typer.echo(f"{error.filename} is there already, and is kept.", err=True)
        return 1
    typer.echo(
        f"Made ca.pem, cert.pem and key.pem in {folder}, good until {expires:%Y-%m-%d}.\n"
        "Copy the folder to every machine and name it there in BACKSOLVE_TLS_DIR."
    )
    return 0
