"""Where a verb works: at a service over HTTP or, with ``--local``, on a data folder in this process.

Both use the same client and the same application; locally, requests don't leave the process. So a verb gives the same
answer either way.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar, get_type_hints

import httpx
import typer

from app.errors import OneshotError
from app.settings import SettingsError, load_settings
from model.folders import printable
from oneshot_client import DEFAULT_URL, AsyncClient, ClientError, Retry, UnreachableError

T = TypeVar("T")

#: Exit codes for scripts: yes, known or done; no or unknown; wrong usage or a problem.
YES, NO, PROBLEM = 0, 1, 2

_HOME_DEFAULT = "[ONESHOT_HOME; default: ./data]"
#: The option of verbs that work on a data folder only.
Home = Annotated[Path | None, typer.Option(help=f"Data folder. {_HOME_DEFAULT}")]

_OPTIONS: dict[str, tuple[Any, object]] = {
    "url": (
        Annotated[str, typer.Option(envvar="ONESHOT_URL", help="Address of the service.", rich_help_panel="Where")],
        DEFAULT_URL,
    ),
    "api_key": (
        Annotated[
            str | None,
            typer.Option(envvar="ONESHOT_API_KEY", help="Key of the service, if it asks.", rich_help_panel="Where"),
        ],
        None,
    ),
    "local": (
        Annotated[
            bool,
            typer.Option("--local", help="Work on the data folder itself, without a service.", rich_help_panel="Where"),
        ],
        False,
    ),
    "home": (
        Annotated[
            Path | None,
            typer.Option(
                help=f"Data folder for --local and --engine ray. {_HOME_DEFAULT}",
                rich_help_panel="Where",
            ),
        ],
        None,
    ),
}


@dataclass(frozen=True)
class Target:
    """The values of the options in `_OPTIONS`."""

    url: str
    api_key: str | None
    local: bool
    home: Path | None


def verb(function: Callable[..., int | None]) -> Callable[..., None]:
    """Make a command of `function(target, ...)`. The options in `_OPTIONS` replace `target`, and the returned number is
    the exit code."""

    @functools.wraps(function)
    def command(**options: Any) -> None:
        target = Target(**{name: options.pop(name) for name in _OPTIONS})
        if target.home is not None and not target.local and options.get("engine") != "ray":
            raise typer.BadParameter("only with --local, or --engine ray", param_hint="--home")
        sys.exit(function(target, **options) or YES)

    hints = get_type_hints(function, include_extras=True)
    own = [
        parameter.replace(annotation=hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in list(inspect.signature(function).parameters.values())[1:]
    ]
    where = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in _OPTIONS.items()
    ]
    command.__signature__ = inspect.Signature([*own, *where])  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *where)}
    return command


def run(target: Target, work: Callable[[AsyncClient], Awaitable[T]]) -> T:
    """The result of `work` with a client for the target. A problem ends the program with one line and exit code 2."""
    try:
        return asyncio.run(_run(target, work))
    except UnreachableError as error:
        fail(f"{error}. Start a service with 'oneshot serve', or use --local.")
    except (ClientError, OneshotError, SettingsError, OSError, ValueError, httpx.InvalidURL) as error:
        fail(str(error))
    except KeyboardInterrupt:
        sys.stderr.write("oneshot: interrupted\n")
        sys.exit(130)


def fail(line: str) -> NoReturn:
    """Exit with one line on stderr and code 2."""
    sys.stderr.write(f"oneshot: {printable(line)}\n")
    sys.exit(PROBLEM)


@contextmanager
def one_line_problems() -> Iterator[None]:
    """Turn expected errors into one line on stderr and exit code 2."""
    try:
        yield
    except OneshotError as error:
        fail(error.detail)
    except (OSError, ValueError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        sys.stderr.write("oneshot: interrupted\n")
        sys.exit(130)


async def _run(target: Target, work: Callable[[AsyncClient], Awaitable[T]]) -> T:
    if target.local:
        async with _in_process(target.home) as client:
            return await work(client)
    async with AsyncClient(target.url, api_key=target.api_key) as client:
        return await work(client)


@asynccontextmanager
async def _in_process(home: Path | None) -> AsyncIterator[AsyncClient]:
    """A client whose requests are answered by an application in this process."""
    settings = load_settings(home=home, api_keys="off")  # reading the folder already requires access to it
    from app.api.application import create_app  # noqa: PLC0415
    from app.telemetry.logs import configure_logging  # noqa: PLC0415 - torch and all come with it

    configure_logging("error", "console")
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        # many retries, because no one else uses this queue
        async with AsyncClient(
            "http://localhost", transport=transport, retry=Retry(attempts=60), timeout=600
        ) as client:
            yield client
