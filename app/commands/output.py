"""Output of the verbs: tables for people, one JSON object per line for programs, progress on a terminal."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from model.folders import printable
from oneshot_client import ProblemError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object a line, for programs.")]
Gallery = Annotated[str, typer.Option("--gallery", "-g", help="Name of the gallery.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]


_WIDEST = 100_000
_NAMED = 10


def print_json(value: BaseModel | dict[str, Any]) -> None:
    """Print one object on one line."""
    plain = value.model_dump(mode="json", by_alias=True) if isinstance(value, BaseModel) else value
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    sys.stdout.write(json.dumps(plain, ensure_ascii=not unicode) + "\n")


def print_line(line: str) -> None:
    """Print one line of text unchanged."""
    sys.stdout.write(line + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table. Numbers are right-aligned, and markup in a label is printed as text."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        numbers = all(isinstance(row[index], int | float) or row[index] is None for row in rows)
        table.add_column(column, justify="right" if rows and numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    console = Console()
    if not console.is_terminal:  # read by a program: don't fold lines to the width of a screen
        console.width = max(
            console.width, Measurement.get(console, console.options.update(width=_WIDEST), table).maximum
        )
    console.print(table)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else printable(str(value))


def count(number: int, one: str, many: str = "") -> str:
    """The number and the right form of the noun."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def problem(error: Exception) -> dict[str, str]:
    """An error as JSON for programs."""
    if isinstance(error, ProblemError):
        return {"problem": error.slug, "detail": error.detail}
    return {"problem": "client", "detail": str(error)}


def tell_problems(problems: Sequence[tuple[str, str, bool]]) -> None:
    """Print a line on stderr for each file that failed; a shared problem gets one line for all files.

    Each tuple has the file, the text, and whether the problem would occur with any file.
    """
    shared = Counter(text for _, text, anybodys in problems if anybodys)
    for file, text, anybodys in problems:
        if not anybodys or shared[text] == 1:
            sys.stderr.write(f"oneshot: {printable(file)}: {text}\n")
        elif number := shared.pop(text, 0):
            sys.stderr.write(f"oneshot: {text} ({count(number, 'file')})\n")


def tell_passed_over(files: Sequence[str], as_json: bool) -> None:
    """Report the files that were skipped, as not named like images: all for programs, the first ones for people."""
    for file in files if as_json else ():
        print_json({"file": file, "passed_over": True})
    if files and not as_json:
        names = ", ".join(map(printable, files[:_NAMED]))
        more = f" and {len(files) - _NAMED} more (--json names all)" if len(files) > _NAMED else ""
        print_line(f"passed over, as not named like images: {count(len(files), 'file')} ({names}{more})")


def confirm(question: str, yes: bool) -> None:
    """Ask before data is deleted. Without a terminal and without --yes, exit with code 2."""
    if yes:
        return
    if not sys.stdin.isatty():
        sys.stderr.write("oneshot: nobody is there to ask; give --yes to do it\n")
        sys.exit(2)
    typer.confirm(question, abort=True, err=True)


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar on stderr, if it is a terminal and `total` is above 1. Call the result after each step."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=total < 2 or not console.is_terminal) as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)
