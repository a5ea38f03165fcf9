"""``oneshot backup``, ``restore`` and ``export``, for a data folder. It may be served, except for a restore."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.commands.output import Json, count, print_json, print_line, progress
from app.commands.target import Home, fail, one_line_problems
from app.names import DEFAULT_GALLERY
from app.settings import SettingsError, load_settings

if TYPE_CHECKING:
    from app.home.backup import Summary


def home_folder(home: Path | None) -> Path:
    """The data folder of the option, the environment or the default."""
    try:
        return load_settings(home=home).home
    except SettingsError as error:
        fail(str(error))


def backup(
    file: Annotated[Path, typer.Argument(help="The file to write.")], home: Home = None, as_json: Json = False
) -> None:
    """Write the whole data folder to one file; a server may go on meanwhile."""
    from app.home.backup import back_up  # noqa: PLC0415 - torch and all come with it

    with one_line_problems():
        _refuse_server("pg_dump writes a backup of it")
        _tell(file, back_up(home_folder(home), file), as_json)


def restore(
    file: Annotated[Path, typer.Argument(help="A file that 'oneshot backup' wrote.")],
    home: Home = None,
    replace: Annotated[bool, typer.Option("--replace", help="Put it in the place of what the folder has.")] = False,
    as_json: Json = False,
) -> None:
    """Make a data folder what a backup holds; all of it is verified before anything is touched."""
    from app.home.backup import restore as put_back  # noqa: PLC0415

    with one_line_problems():
        _refuse_server("pg_restore puts a backup back")
        folder = home_folder(home)
        _tell(folder, put_back(file, folder, over=replace), as_json)


def export(
    folder: Annotated[Path, typer.Argument(help="The folder to write; new or empty.")],
    home: Home = None,
    gallery: Annotated[str, typer.Option("--gallery", "-g", help="Name of the gallery.")] = DEFAULT_GALLERY,
    as_json: Json = False,
) -> None:
    """Write a gallery's images, a folder for each class; 'oneshot enroll FOLDER' takes them back."""
    from app.home.export import export_gallery  # noqa: PLC0415
    from app.store import open_store  # noqa: PLC0415

    with one_line_problems():
        store = open_store(home_folder(home), load_settings().store)
        try:
            classes = {each.name: each.classes for each in store.list_galleries()}
            with progress("exporting", classes.get(gallery, 0)) as tick:
                images = export_gallery(store, gallery, folder, tick)
        finally:
            store.close()
        if as_json:
            print_json({"folder": str(folder), "images": images, "classes": classes[gallery]})
        else:
            print_line(f"{folder}: {count(images, 'image')} of {count(classes[gallery], 'class', 'classes')}")


def _refuse_server(instead: str) -> None:
    if load_settings().store is not None:
        raise ValueError(f"the store is a PostgreSQL database (ONESHOT_STORE): {instead}")


def _tell(place: Path, found: Summary, as_json: bool) -> None:
    if as_json:
        print_json({"path": str(place), **asdict(found)})
        return
    parts = [count(found.galleries, "gallery", "galleries"), count(found.classes, "class", "classes")]
    parts += [count(found.shots, "shot"), count(found.images, "image"), count(len(found.models), "model")]
    print_line(f"{place}: {', '.join(parts)} ({found.created})")
