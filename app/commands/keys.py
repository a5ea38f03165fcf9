"""``oneshot keys``: works on the data folder itself, even while it is served."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app import rates
from app.api_key import Key, Scope, make_key
from app.commands.output import Json, print_json, print_line, print_table
from app.commands.target import Home, fail
from app.names import clean_gallery
from app.settings import SettingsError, load_settings

if TYPE_CHECKING:
    from app.store.keys import KeyStore

cli = typer.Typer(
    help="Make, list and revoke the keys that a service with ONESHOT_API_KEYS=on asks for.", no_args_is_help=True
)

#: Longest lifetime of a key: a thousand years.
_MOST_DAYS = 365_000


@contextmanager
def _keys(home: Path | None) -> Iterator[KeyStore]:
    from app.errors import OneshotError  # noqa: PLC0415 - quick --help
    from app.store import open_store  # noqa: PLC0415

    try:
        settings = load_settings(home=home)
        store = open_store(settings.home, settings.store)
        try:
            yield store.keys
        finally:
            store.close()
    except (OneshotError, SettingsError) as error:
        fail(str(error))


@cli.command()
def create(  # noqa: PLR0917 - typer gives all by name
    name: Annotated[str, typer.Argument(help="What it is for, so that you know it in the list.")],
    scope: Annotated[
        list[Scope] | None, typer.Option(help="What it may do: read, enrol, admin (all). Several times for several.")
    ] = None,
    gallery: Annotated[
        list[str] | None, typer.Option(help="A gallery that it is for. Several times for several; without, all.")
    ] = None,
    rate: Annotated[
        str | None, typer.Option(help="How often it may ask, such as 100/minute; default: the service's.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=10**9, help="How much it may ask at once; default: the service's.")
    ] = None,
    days: Annotated[
        float | None, typer.Option(min=0, max=_MOST_DAYS, help="Days until it expires; without, never.")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make a key, and print it this one time: only its hash is kept. A running service knows it at once."""
    if rate is not None and not re.fullmatch(rates.PATTERN, rate):
        raise typer.BadParameter(f"{rates.IN_WORDS}, the number of at most 9 digits", param_hint="--rate")
    if days is not None and math.isnan(days):  # passes the checks of both limits
        raise typer.BadParameter("nan is no number", param_hint="--days")
    try:
        galleries = frozenset(map(clean_gallery, gallery)) if gallery else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--gallery") from None
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
    key, text = make_key(
        name, frozenset(scope or [Scope.READ]), galleries, rate=rate, concurrency=concurrency, expires_at=expires_at
    )
    with _keys(home) as keys:
        keys.add(key)
    if as_json:
        print_json({**_plain(key), "key": text})
    else:
        print_line(text)


@cli.command("list")
def list_(home: Home = None, as_json: Json = False) -> None:
    """List all keys, without their secrets, also those that were revoked."""
    with _keys(home) as keys:
        found = keys.all()
    if as_json:
        for key in found:
            print_json(_plain(key))
    elif found:
        print_table(
            ("id", "name", "scopes", "galleries", "created", "state"),
            [
                (
                    key.id,
                    key.name,
                    " ".join(sorted(key.scopes)),
                    _galleries(key),
                    f"{key.created_at:%F %T}",
                    _state(key),
                )
                for key in found
            ],
        )
    else:
        print_line("there is no key yet; 'oneshot keys create NAME --scope admin' makes one")


@cli.command()
def revoke(
    ids: Annotated[list[str], typer.Argument(help="Ids of keys, as `list` shows them.")], home: Home = None
) -> None:
    """Make keys open nothing any more; a running service knows it within a second."""
    with _keys(home) as keys:
        unknown = [key_id for key_id in ids if not keys.revoke(key_id)]
    if unknown:
        fail(f"no valid key: {', '.join(unknown)}")


def _plain(key: Key) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "galleries": None if key.galleries is None else sorted(key.galleries),
        "rate": key.rate,
        "concurrency": key.concurrency,
        "created_at": key.created_at.isoformat(),
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
        "state": _state(key),
    }


def _galleries(key: Key) -> str:
    return "all" if key.galleries is None else " ".join(sorted(key.galleries))


def _state(key: Key) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "valid" if key.valid() else "expired"
