"""Settings of the service: one frozen object, read from options, the environment and `.env`, in this order.

Each setting declares its meaning and its allowed values. The options of ``oneshot serve``, the error message for a
wrong value and the check of docs/settings.md are made from that declaration.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from dotenv import dotenv_values
from pydantic import Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from app import rates

if TYPE_CHECKING:
    from model.embedder import EngineName

PREFIX = "ONESHOT_"
ENV_FILE = ".env"
#: Variables with the prefix that other code reads: training, tests on real data, and the commands that call a service.
READ_ELSEWHERE = frozenset({"ONESHOT_API_KEY", "ONESHOT_CASES", "ONESHOT_CORPUS", "ONESHOT_DATASETS", "ONESHOT_URL"})


#: Upper limits by unit. System calls and libraries refuse much larger values.
_MOST = {"bytes": 10**12, "seconds": 86_400, "processes": 1000, "threads": 1000}
#: Longest part of a wrong value that an error shows, in characters.
_SHOWN = 80


class SettingsError(ValueError):
    """A setting has a wrong value; the text is one line that names the variable and what is allowed."""


def _setting(default: object, meaning: str, allowed: str, **constraints: Any) -> Any:
    return Field(default, description=meaning, json_schema_extra={"allowed": allowed}, **constraints)


def _count(default: int | None, meaning: str, unit: str, least: int = 1) -> Any:
    most = _MOST.get(unit, 10**9)
    return _setting(default, meaning, f"a whole number of {unit} from {least} to {most}", ge=least, le=most)


def _seconds(default: float, meaning: str) -> Any:
    most = _MOST["seconds"]
    return _setting(default, meaning, f"a number of seconds above 0, at most {most}", gt=0, le=most)


class Settings(BaseSettings):
    """Settings of the service: each field is `ONESHOT_<NAME>` in the environment and `--<name>` as an option."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=ENV_FILE,
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
    )

    host: str = _setting("127.0.0.1", "Address to listen on.", "a host name or an IP address", min_length=1)
    port: int = _setting(
        8000, "TCP port to listen on; 0 takes any free one.", "a whole number from 0 to 65535", ge=0, le=65535
    )
    api_keys: Literal["off", "on"] = _setting(
        "off", "Whether requests need a key (`oneshot keys create`).", "off or on"
    )
    insecure: bool = _setting(
        False, "Listen on an address that others can reach, although no keys are asked for.", "true or false"
    )
    key_rate: str = _setting(
        "6000/minute",
        "How often one key may ask.",
        rates.IN_WORDS,
        pattern=f"^{rates.PATTERN}$",
    )
    key_concurrency: int = _count(64, "How much one key may ask at once.", "requests")
    cors_origins: str | None = _setting(
        None, "Other sites whose pages may use the service from a browser.", "origins, separated by commas, or *"
    )
    allowed_hosts: str | None = _setting(
        None,
        "Names that a service without keys is called by, besides localhost and its own address.",
        "host names, separated by commas, or *",
    )
    home: Path = _setting(Path("./data"), "Folder of all state (the store). Created at need.", "a folder's path")
    reserve_bytes: int = _count(
        32 * 2**20,
        "What is kept free of the data folder's disk, so that a full one still lets classes be deleted.",
        "bytes",
        least=0,
    )
    store: str | None = _setting(
        None,
        "A PostgreSQL database for the store, instead of a file in the data folder.",
        "postgresql://<user>:<password>@<host>:<port>/<database>",
        pattern=r"^postgres(ql)?://",
    )
    model: Path | None = _setting(
        None,
        "The model artefact; when not set, the one the data folder has, at first omniglot.",
        "a folder's path, or the name of a shipped one",
    )
    device: str = _setting(
        "auto",
        "Where the network runs; a device that is asked for and missing stops the start.",
        "auto, cpu, cuda, cuda:<number> or mps",
        pattern=r"^(auto|cpu|mps|cuda(:[0-9]{1,3})?)$",
    )
    engine: Literal["auto", "torch", "torch-half", "openvino", "openvino-int8", "ray"] = _setting(
        "auto",
        "What runs the network. auto: OpenVINO on a CPU (int8 for a new data folder), else torch. ray: a Ray cluster, "
        "on each of whose nodes it is as with auto.",
        "auto, torch, torch-half, openvino, openvino-int8 or ray",
    )
    workers: int = _count(1, "Processes that serve, sharing the port and the store.", "processes")
    worker_timeout: float = _setting(
        30.0,
        "How long a worker may give no sign of life until it is killed and replaced.",
        "a number of seconds from 2 to 86400",
        ge=2,
        le=_MOST["seconds"],
    )
    shards: int = _count(1, "Parts that the galleries lie in, with the engine ray.", "processes")
    embedders: int = _count(
        4, "Most processes that run the network, with the engine ray; as many run as the load asks for.", "processes"
    )
    embedder_gpus: float = _setting(
        0.0, "GPUs of each of them; 0.25 lets four share one.", "a number from 0 to 1000", ge=0, le=1000
    )
    threads: int | None = _count(None, "CPU threads of one forward pass; the engine decides when not set.", "threads")
    max_upload_bytes: int = _count(10 * 2**20, "Largest request body.", "bytes")
    max_pending_bytes: int = _count(
        96 * 2**20, "Most bytes of all requests' bodies together, and of all answers; then 503.", "bytes"
    )
    max_pixels: int = _count(40_000_000, "Largest image, checked before it is decoded.", "pixels")
    max_images: int = _count(64, "Most images in one request.", "images")
    max_enroll_images: int = _count(1000, "Most images in one `POST /enroll/batch`.", "images")
    max_enroll_bytes: int = _count(64 * 2**20, "Largest body of one `POST /enroll/batch`.", "bytes")
    keep_images: bool = _setting(
        True, "Whether enrolled images are kept; without them the model can't be changed.", "true or false"
    )
    max_batch: int = _count(64, "Most images in one forward pass.", "images")
    max_queue: int = _count(256, "Most images that wait for the network; more are answered with 503.", "images")
    request_timeout: float = _seconds(30.0, "Seconds that one request may take, its upload included; then 504.")
    head_timeout: float = _seconds(10.0, "Seconds that a request's line and headers may take to come in; then 408.")
    upload_timeout: float = _seconds(20.0, "Seconds that a request's body may take to come in; then 408.")
    upload_rate: int = _count(
        1024, "Least bytes a second that a body must come in with, over 5 seconds; then 408.", "bytes"
    )
    send_timeout: float = _seconds(
        20.0, "Seconds in which a client must take the next 64 KiB of its answer; then the connection is cut."
    )
    shutdown_timeout: int = _count(30, "How long a stop waits for what is in flight.", "seconds")
    log_level: Literal["debug", "info", "warning", "error"] = _setting(
        "info", "Least severe log entry that is written.", "debug, info, warning or error"
    )
    log_format: Literal["json", "console"] = _setting(
        "json", "One JSON object a line, or coloured text for people.", "json or console"
    )

    @model_validator(mode="after")
    def _queue_holds_a_request(self) -> Self:
        for name in ("max_images", "max_batch"):
            if getattr(self, name) > self.max_queue:
                raise ValueError(
                    f"{variable(name)}={getattr(self, name)} is larger than {variable('max_queue')}={self.max_queue}; "
                    "a request or batch of that size could never be queued"
                )
        return self

    @property
    def network_engine(self) -> EngineName:
        """The engine in processes that run the network."""
        return "auto" if self.engine == "ray" else self.engine


def variable(name: str) -> str:
    """The environment variable of the setting `name`."""
    return PREFIX + name.upper()


def option(name: str) -> str:
    """The command-line option of the setting `name`."""
    return "--" + name.replace("_", "-")


def allowed(field: FieldInfo) -> str:
    """What a setting accepts, in words."""
    extra = field.json_schema_extra
    return str(extra["allowed"]) if isinstance(extra, dict) else ""


def load_settings(**options: object) -> Settings:
    """Read settings from `options` (None: not given), then the environment, then `.env`.

    Raises SettingsError, with a message of one line, when a value is not allowed.
    """
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]  # strings from the command line are parsed by pydantic
    except ValidationError as error:
        raise SettingsError("; ".join(_line(dict(item)) for item in error.errors())) from None
    except (UnicodeDecodeError, OSError) as error:
        raise SettingsError(f"{ENV_FILE} can't be read: {error}") from None


def _line(item: Mapping[str, Any]) -> str:
    if not item["loc"]:
        return str(item["msg"]).removeprefix("Value error, ")
    name = str(item["loc"][0]).lower().removeprefix(PREFIX.lower())
    found = without_password(item["input"])
    found = found if len(found) <= _SHOWN else found[:_SHOWN] + "..."
    return f"{variable(name)} ({option(name)}) is {found!r}; allowed: {allowed(Settings.model_fields[name])}"


def without_password(value: object) -> str:
    """The value as text, without the user and password of a URL."""
    return re.sub(r"(?<=//).*@|(?<=password=)[^&]*", "", str(value))


def unknown_variables(environ: Mapping[str, str] = os.environ) -> dict[str, str | None]:
    """Variables with our prefix that nothing reads, each with the closest known name (for typos) or None."""
    known = {variable(name) for name in Settings.model_fields} | READ_ELSEWHERE
    present = {name.upper() for name in (*environ, *dotenv_values(ENV_FILE)) if name.upper().startswith(PREFIX)}
    return {
        name: next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.7)), None)
        for name in sorted(present - known)
    }
