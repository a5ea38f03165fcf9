"""``oneshot model``: which model a data folder has, and changing it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.commands.data import home_folder
from app.commands.output import Json, print_json, print_line
from app.commands.target import Home, one_line_problems
from app.settings import load_settings

if TYPE_CHECKING:
    from app.home.model_shelf import ModelShelf
    from app.store import SqlStore

cli = typer.Typer(help="Which model a data folder has, and changing it.", no_args_is_help=True)

_NEXT = (
    "A running service embeds the images anew in the background, and so does the next start; 'oneshot model status' "
    "tells how far it is. A service that is started with ONESHOT_MODEL changes to that one again."
)


@cli.command()
def status(home: Home = None, as_json: Json = False) -> None:
    """Tell which model the galleries have, and how far a change is."""
    with _opened(home) as (store, shelf):
        if as_json:
            from app.api.routes.models import models_public  # noqa: PLC0415
            from app.recognition.model_change import read_change  # noqa: PLC0415

            print_json(models_public(read_change(store.models), shelf.digests()))
        else:
            _tell(store, shelf)


@cli.command()
def switch(
    artifact: Annotated[Path, typer.Argument(help="Its folder, or a shipped one's name.")],
    home: Home = None,
) -> None:
    """Change all galleries to a model. Each answers with its present one until its images are embedded anew."""
    with _opened(home) as (store, shelf):
        from app.recognition.model_change import want_model  # noqa: PLC0415
        from model import artifact_folder  # noqa: PLC0415
        from model.artifact import ArtifactError, load_artifact  # noqa: PLC0415
        from model.embedder import DeviceError, choose_form  # noqa: PLC0415

        settings, artifact = load_settings(), artifact_folder(artifact)
        try:
            load_artifact(artifact)
            base, int8 = shelf.put_forms(artifact)
            digest = choose_form(base, int8, device=settings.device, engine=settings.network_engine)
        except (ArtifactError, DeviceError) as error:
            raise ValueError(str(error)) from error
        want_model(store.models, digest)
        _tell(store, shelf)
        print_line(_NEXT)


@cli.command()
def rollback(home: Home = None) -> None:
    """Go back to the model before; only what was enrolled since then has to be embedded."""
    with _opened(home) as (store, shelf):
        from app.recognition.model_change import previous_model, want_model  # noqa: PLC0415

        want_model(store.models, previous_model(store.models))
        _tell(store, shelf)
        print_line(_NEXT)


@contextmanager
def _opened(home: Path | None) -> Iterator[tuple[SqlStore, ModelShelf]]:
    from app.home.lock import serving  # noqa: PLC0415 - heavy
    from app.home.model_shelf import ModelShelf  # noqa: PLC0415
    from app.store import open_store  # noqa: PLC0415

    folder = home_folder(home)
    with one_line_problems(), serving(folder):
        store = open_store(folder, load_settings().store)
        try:
            yield store, ModelShelf(folder)
        finally:
            store.close()


def _tell(store: SqlStore, shelf: ModelShelf) -> None:
    from app.recognition.model_change import read_change  # noqa: PLC0415

    change = read_change(store.models)

    def name(digest: str | None) -> str:
        manifest = None if digest is None else shelf.manifest(digest)
        return manifest.model_id if manifest else (digest or "none")

    print_line(f"model     {name(change.model)}")
    print_line(f"previous  {name(change.previous)}")
    for each in change.pending:
        lacking = f", {each.without_image} can't be: their images were not kept" if each.without_image else ""
        held = f"; it does not get on: {each.problem}" if each.problem else ""
        print_line(
            f"gallery {each.gallery}: has {name(each.model_digest)}; {each.done} of {each.shots} images done"
            f"{lacking}{held}"
        )
