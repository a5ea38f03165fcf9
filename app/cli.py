"""The ``oneshot`` command. Heavy modules are imported by the verb that needs them, so that ``--help`` is quick."""

from __future__ import annotations

import contextlib
import inspect
import logging
import socket
import sys
from typing import Annotated, Any, NoReturn

import typer

from app.settings import Settings, SettingsError, allowed, load_settings, option, variable

cli = typer.Typer(
    help="Recognise symbols, characters, parts, logos or faces from one example each.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_WRONG_SETTING = 2


@cli.callback()
def _root() -> None:
    """Keep the verbs, also while there is only one."""


def serve(**options: Any) -> None:
    """Serve over HTTP until interrupted. Each option is also a variable, read from the environment or from `.env`."""
    try:
        settings = load_settings(**options)
    except SettingsError as error:
        _stop(str(error))
    _run(settings)


def _parameter(name: str) -> inspect.Parameter:
    # all values come as text and are judged by Settings, so that options and variables have one rule and one error line
    field = Settings.model_fields[name]
    default = "not set" if field.default is None else field.default
    help_text = f"{field.description} Allowed: {allowed(field)}. [{variable(name)}; default: {default}]"
    annotation = Annotated[str | None, typer.Option(option(name), help=help_text, metavar="VALUE", show_default=False)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _register_serve() -> None:
    parameters = [_parameter(name) for name in Settings.model_fields]
    serve.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    serve.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    cli.command()(serve)


_register_serve()


def _run(settings: Settings) -> None:
    listening = _bind(settings)
    from app.logs import configure_logging  # noqa: PLC0415 - heavy imports only when serving

    configure_logging(settings.log_level, settings.log_format)
    import uvicorn  # noqa: PLC0415

    from app.main import create_app  # noqa: PLC0415

    app = create_app(settings)
    # a start that fails for a known reason says so in one line, which uvicorn would surround with its own
    logging.getLogger("uvicorn.error").addFilter(lambda _record: not hasattr(app.state, "startup_error"))
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", server_header=False, ws="none")
    host, port = listening.getsockname()[:2]
    app.state.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"  # told in the log once it is ready
    # KeyboardInterrupt: uvicorn has shut down by then, and passes the signal on. SystemExit: judged below.
    with contextlib.suppress(KeyboardInterrupt, SystemExit):
        uvicorn.Server(config).run(sockets=[listening])
    if error := getattr(app.state, "startup_error", None):
        _stop(error.detail)
    if not hasattr(app.state, "service"):
        sys.exit(1)


def _bind(settings: Settings) -> socket.socket:
    """Take the port before anything else, so that a wrong address is told at once."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        where = f"{variable('host')}={settings.host} {variable('port')}={settings.port}"
        _stop(f"{where}: can't listen there: {error.strerror or error}")
    return listening


def _stop(line: str) -> NoReturn:
    sys.stderr.write(f"oneshot: {line}\n")
    sys.exit(_WRONG_SETTING)


def main() -> None:
    """Entry point of the ``oneshot`` script."""
    cli()
