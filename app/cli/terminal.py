"""How a command talks to a person: plain text that also reads well in a pipe, at 80 columns."""

import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

WIDTH_MAX = 80
INDENT = 3


def terminal() -> Console:
    console = Console(highlight=False)
    console.width = min(console.width, WIDTH_MAX)
    return console


def say(console: Console, text: str, *, indent: int = INDENT) -> None:
    """A paragraph, wrapped here: rich would fill its lines with spaces, which a pipe would keep."""
    margin = " " * indent
    lines = textwrap.fill(
        text,
        console.width,
        initial_indent=margin,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    )
    console.print(Text(lines), soft_wrap=True)


def begin(console: Console, title: str, call: str = "") -> None:
    """A heading, with what is called at the right if there is room for it."""
    room = console.width - len(title)
    line = Text("\n").append(title, style="bold")
    if call and len(call) + 2 <= room:
        line.append(f"{call:>{room}}", style="dim")
    console.print(line, soft_wrap=True)


def grid(*heads: str, words: int = 1) -> Table:
    """A table without lines: the first `words` columns hold words, the others numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for number, head in enumerate(heads):
        table.add_column(head, justify="left" if number < words else "right", no_wrap=True)
    return table


def show(console: Console, table: Table) -> None:
    console.print(Padding(table, (0, 0, 0, INDENT), expand=False))


@contextmanager
def waiting(console: Console, text: str) -> Iterator[Callable[[str, float], None]]:
    """A moving line until the block ends, where there is somebody to see it.

    The block may call what it gets with another text and the fraction done.
    """
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        console=console,
        transient=True,
        disable=not is_lively(console),
    )
    with progress:
        task = progress.add_task(text, total=None)
        yield lambda text, fraction: progress.update(
            task, description=text, total=1.0, completed=fraction
        )


def is_lively(console: Console) -> bool:
    return (
        console.is_terminal
        and not console.is_dumb_terminal
        and not console.no_color
        and is_unicode(console)
    )


def is_unicode(console: Console) -> bool:
    return console.encoding.lower().startswith("utf")
