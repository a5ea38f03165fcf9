"""``oneshot galleries``."""

from __future__ import annotations

from typing import Annotated

import typer

from app.commands.output import Json, Yes, confirm, print_json, print_line, print_table
from app.commands.target import Target, run, verb
from oneshot_client import AsyncClient
from oneshot_client.answers import CalibrationPublic

cli = typer.Typer(help="List, delete and calibrate galleries.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="Name of the gallery.")]


@cli.command("list")
@verb
def list_(target: Target, as_json: Json = False) -> None:
    """List all galleries."""
    found = run(target, lambda client: client.galleries())
    if as_json:
        for item in found:
            print_json(item)
    elif found:
        print_table(
            ("name", "classes", "model", "calibrated", "created"),
            [
                (item.name, item.classes, item.digest[:12], _yes_no(item.calibrated), f"{item.created_at:%F %T}")
                for item in found
            ],
        )
    else:
        print_line("there is no gallery yet; enrolling makes one")


@cli.command()
@verb
def delete(
    target: Target,
    names: Annotated[list[str], typer.Argument(help="Names of galleries.")],
    yes: Yes = False,
) -> None:
    """Delete galleries with all their classes, images and vectors, for good."""
    confirm(f"Delete {', '.join(names)} with all classes?", yes)

    async def work(client: AsyncClient) -> None:
        for name in names:
            await client.delete_gallery(name)

    run(target, work)


@cli.command()
@verb
def calibrate(
    target: Target,
    name: NameArgument,
    prior: Annotated[float | None, typer.Option("--prior", help="Probability of 'same' before looking.")] = None,
    forget: Annotated[bool, typer.Option("--forget", help="Go back to the model's calibration instead.")] = False,
    as_json: Json = False,
) -> None:
    """Fit what a gallery's similarities mean to its own images; its classes must hold several images each."""

    async def work(client: AsyncClient) -> CalibrationPublic:
        if forget:
            await client.forget_calibration(name)
            return await client.calibration(name)
        return await client.calibrate(name, prior=prior)

    _tell(run(target, work), as_json)


@cli.command()
@verb
def calibration(target: Target, name: NameArgument, as_json: Json = False) -> None:
    """Show what a gallery's similarities mean, and which error rates its data supports."""
    _tell(run(target, lambda client: client.calibration(name)), as_json)


def _tell(found: CalibrationPublic, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    print_line(f"{found.gallery}: by {found.source}")
    print_table(("", ""), [(name.replace("_", " "), value) for name, value in found.model_dump().items()][2:])


def _yes_no(value: bool) -> str:
    return "yes" if value else "no"
