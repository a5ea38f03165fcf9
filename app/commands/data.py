"""``oneshot backup``, ``restore`` and ``export``: on a data folder, which may be served (but for a restore)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.commands.output import print_line, progress
from app.commands.target import fail
from app.errors import OneshotError
from app.names import DEFAULT_GALLERY
from app.settings import SettingsError, load_settings

if TYPE_CHECKING:
    from app.backup import Summary

Home = Annotated[Path | None, typer.Option(help="Data folder. [ONESHOT_HOME; default: ./data]")]


def home_folder(home: Path | None) -> Path:
    """The data folder that is meant."""
    try:
        return load_settings(home=home).home
    except SettingsError as error:
        fail(str(error))


@contextmanager
def one_line_problems() -> Iterator[None]:
    """End with one line and exit code 2 for what can go wrong."""
    try:
        yield
    except OneshotError as error:
        fail(error.detail)
    except (OSError, ValueError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        sys.stderr.write("oneshot: interrupted\n")
        sys.exit(130)


def backup(file: Annotated[Path, typer.Argument(help="The file to write.")], home: Home = None) -> None:
    """Write the whole data folder to one file; a server may go on meanwhile."""
    from app.backup import back_up  # noqa: PLC0415 - torch and all come with it

    with one_line_problems():
        print_line(f"{file}: {_told(back_up(home_folder(home), file))}")


def restore(
    file: Annotated[Path, typer.Argument(help="A file that 'oneshot backup' wrote.")],
    home: Home = None,
    replace: Annotated[bool, typer.Option("--replace", help="Put it in the place of what the folder has.")] = False,
) -> None:
    """Make a data folder what a backup holds; all of it is verified before anything is touched."""
    from app.backup import restore as put_back  # noqa: PLC0415

    with one_line_problems():
        folder = home_folder(home)
        print_line(f"{folder}: {_told(put_back(file, folder, replace))}")


def export(
    folder: Annotated[Path, typer.Argument(help="The folder to write; new or empty.")],
    home: Home = None,
    gallery: Annotated[str, typer.Option("--gallery", "-g", help="Name of the gallery.")] = DEFAULT_GALLERY,
) -> None:
    """Write a gallery's images, a folder for each class; 'oneshot enroll FOLDER' takes them back."""
    from app.backup import STORE_FILE  # noqa: PLC0415
    from app.export import export_gallery  # noqa: PLC0415
    from app.store import SqlStore  # noqa: PLC0415

    with one_line_problems():
        store = SqlStore(home_folder(home) / STORE_FILE)
        try:
            classes = {each.name: each.classes for each in store.list_galleries()}
            with progress("exporting", classes.get(gallery, 0)) as tick:
                count = export_gallery(store, gallery, folder, tick)
        finally:
            store.close()
        print_line(f"{folder}: {count} images of {classes[gallery]} classes")


def _told(summary: Summary) -> str:
    return (
        f"{summary.galleries} galleries, {summary.classes} classes, {summary.shots} shots, {summary.images} images, "
        f"{len(summary.models)} models ({summary.created})"
    )
