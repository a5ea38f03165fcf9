"""``oneshot classes``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.commands.output import Gallery, Json, Yes, confirm, print_json, print_line, print_table
from app.commands.target import NO, YES, Target, run, verb
from app.names import DEFAULT_GALLERY
from oneshot_client import AsyncClient
from oneshot_client.answers import ClassPublic

cli = typer.Typer(help="List, search, show, rename and delete classes.", no_args_is_help=True)

LabelArgument = Annotated[str, typer.Argument(help="Name of the class.")]


@cli.command("list")
@verb
def list_(target: Target, gallery: Gallery = DEFAULT_GALLERY, as_json: Json = False) -> None:
    """List a gallery's classes in the order of their labels."""

    _tell(_find(target, gallery), as_json, f"gallery {gallery} has no class")


@cli.command()
@verb
def search(
    target: Target,
    text: Annotated[str, typer.Argument(help="Part of a name, in upper or lower case.")],
    gallery: Gallery = DEFAULT_GALLERY,
    as_json: Json = False,
) -> int:
    """List the classes whose name contains the text. Exit code 0 when there is one, 1 when there is none."""
    found = _find(target, gallery, text)
    _tell(found, as_json, f"no class of gallery {gallery} contains that")
    return YES if found else NO


@cli.command()
@verb
def show(
    target: Target,
    label: LabelArgument,
    *,
    gallery: Gallery = DEFAULT_GALLERY,
    save: Annotated[Path | None, typer.Option("--save", help="Write the enrolled image to this file.")] = None,
    shot: Annotated[int, typer.Option("--shot", min=0, help="Which of the class's images to save, from 0.")] = 0,
    as_json: Json = False,
) -> None:
    """Show a class, and save its image if asked."""

    async def work(client: AsyncClient) -> ClassPublic:
        found = await client.get_class(label, gallery)
        if save is not None:
            save.write_bytes(await client.class_image(label, gallery, shot=shot))
        return found

    found = run(target, work)
    if as_json:
        print_json(found)
    else:
        _print([found])


@cli.command()
@verb
def rename(
    target: Target,
    label: LabelArgument,
    new: Annotated[str, typer.Argument(help="Its new name.")],
    gallery: Gallery = DEFAULT_GALLERY,
) -> None:
    """Give a class another name; its images stay as they are."""
    run(target, lambda client: client.rename_class(label, new, gallery))


@cli.command()
@verb
def delete(
    target: Target,
    labels: Annotated[list[str], typer.Argument(help="Names of classes.")],
    gallery: Gallery = DEFAULT_GALLERY,
    yes: Yes = False,
) -> None:
    """Delete classes with their images and vectors, for good."""
    confirm(f"Delete {', '.join(labels)} from gallery {gallery}?", yes)

    async def work(client: AsyncClient) -> None:
        for label in labels:
            await client.delete_class(label, gallery)

    run(target, work)


def _find(target: Target, gallery: str, search: str | None = None) -> list[ClassPublic]:
    async def work(client: AsyncClient) -> list[ClassPublic]:
        return [item async for item in client.classes(gallery, search=search)]

    return run(target, work)


def _tell(found: list[ClassPublic], as_json: bool, nothing: str) -> None:
    if as_json:
        for item in found:
            print_json(item)
    elif found:
        _print(found)
    else:
        print_line(nothing)


def _print(found: list[ClassPublic]) -> None:
    print_table(
        ("label", "images", "created", "updated"),
        [(item.label, item.shots, f"{item.created_at:%F %T}", f"{item.updated_at:%F %T}") for item in found],
    )
