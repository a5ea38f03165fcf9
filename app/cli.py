"""The ``oneshot`` command. Heavy modules are imported by the verb that needs them, so that ``--help`` is quick."""

from __future__ import annotations

import inspect
import sys
from importlib.metadata import version
from typing import Annotated, Any, NoReturn

import typer

from app import commands
from app.commands.pipes import let_readers_leave
from app.settings import Settings, SettingsError, allowed, load_settings, option, variable

cli = typer.Typer(
    help="Recognise symbols, characters, parts, logos or faces from one example each.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_WRONG_SETTING = 2


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"oneshot {version('oneshot')}\n")
        raise typer.Exit


@cli.callback()
def _root(
    _wanted: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Tell the version.")
    ] = False,
) -> None:
    """Options of the command itself."""


def serve(**options: Any) -> None:
    """Serve over HTTP until interrupted. Each option is also a variable, read from the environment or from `.env`."""
    try:
        settings = load_settings(**options)
    except SettingsError as error:
        _stop(str(error))
    _run(settings)


def _parameter(name: str) -> inspect.Parameter:
    # all values are passed as text and checked by Settings, so options and variables share their rules and errors
    field = Settings.model_fields[name]
    default = "not set" if field.default is None else field.default
    help_text = f"{field.description} Allowed: {allowed(field)}. [{variable(name)}; default: {default}]"
    if name == "insecure":  # a flag, so that it takes no value
        flag = typer.Option(option(name), help=help_text, show_default=False)
        return inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[bool | None, flag]
        )
    annotation = Annotated[str | None, typer.Option(option(name), help=help_text, metavar="VALUE", show_default=False)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _register_serve() -> None:
    parameters = [_parameter(name) for name in Settings.model_fields]
    serve.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    serve.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    cli.command()(serve)


_register_serve()
commands.register(cli)


def _run(settings: Settings) -> None:
    from app.errors import StartupError  # noqa: PLC0415
    from app.server.serving import serve as run  # noqa: PLC0415

    try:
        sys.exit(run(settings))
    except StartupError as error:
        _stop(error.detail)


def _stop(line: str) -> NoReturn:
    sys.stderr.write(f"oneshot: {line}\n")
    sys.exit(_WRONG_SETTING)


def main() -> None:
    """Entry point of the ``oneshot`` script."""
    let_readers_leave()
    cli()
