"""Restricts a service without keys to its own web pages.

Any page in a browser can send requests to every service that the browser reaches. The browser sends the page's origin,
which is compared with the requested host. A page's owner could point its name at this service's address ("DNS
rebinding"), and both would match; so only the service's own names are accepted as hosts. The rules are those of Go's
`http.CrossOriginProtection`. With keys on, a foreign page has no key, and nothing is checked here.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.problems import problem_response
from app.errors import ForeignOriginError, MisdirectedRequestError, OneshotError
from app.settings import Settings, variable

ANY = "*"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN = frozenset({b"same-origin", b"none"})


class OwnPagesOnly:
    """Answers 421 to requests for other hosts, and 403 to changes by foreign pages.

    The paths in `probes` accept any host; their answers reveal nothing about what is enrolled.
    """

    def __init__(self, app: ASGIApp, settings: Settings, probes: frozenset[str]) -> None:
        self._app = app
        self._probes = probes
        self._hosts = Hosts(settings)
        self._trusted = frozenset(origin.encode() for origin in listed(settings.cors_origins))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI scope."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (problem_response(scope, refusal) if refusal else self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> OneshotError | None:
        host = origin = site = None
        for name, value in scope["headers"]:
            if name == b"host":
                if not self._hosts.include(value, scope["server"]) and scope["path"] not in self._probes:
                    return MisdirectedRequestError(
                        f"This service is not called {value.decode('latin-1')!r}; "
                        f"{variable('allowed_hosts')} names what else it is called."
                    )
                host = value
            elif name == b"origin":
                origin = value
            elif name == b"sec-fetch-site":
                site = value
        if scope["method"] in _SAFE or self._is_own(host, origin, site):
            return None
        return ForeignOriginError(
            f"A page of {(origin or b'another site').decode('latin-1')!r} may change nothing here; "
            f"{variable('cors_origins')} names the sites whose pages may."
        )

    def _is_own(self, host: bytes | None, origin: bytes | None, site: bytes | None) -> bool:
        if origin in self._trusted or b"*" in self._trusted:
            return True
        if site is not None:
            return site in _OWN
        return origin is None or (host is not None and origin.partition(b"://")[2].lower() == host.lower())


class Hosts:
    """The host names and addresses that a service without keys accepts.

    These are loopback, the address it listens on, the one that the connection came in by, and those of `allowed_hosts`.
    A service on all addresses can't know its address behind a container's port or a proxy, so it accepts every IP
    address; a rebound name is never an address.
    """

    def __init__(self, settings: Settings) -> None:
        names = {settings.host.lower(), "localhost", *map(bare, listed(settings.allowed_hosts))}
        self._any = ANY in names
        self._names = names
        self._any_address = _is_wildcard(settings.host)
        self._includes = lru_cache(maxsize=256)(self._judge)

    def include(self, host: bytes, server: tuple[str, int | None] | None) -> bool:
        """Whether a request to `server` (the socket's own address) may have this Host header."""
        return self._any or self._includes(host, server[0] if server else None)

    def _judge(self, host: bytes, server: str | None) -> bool:
        name = bare(host.decode("latin-1"))
        if name in self._names:
            return True
        try:
            address = ip_address(name)
        except ValueError:
            return False
        return self._any_address or address.is_loopback or name == server


def listed(text: str | None) -> list[str]:
    """The comma-separated parts of a setting."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def bare(host: str) -> str:
    """A host in lower case, without port, brackets and final dot."""
    try:
        return (urlsplit(f"//{host}").hostname or "").removesuffix(".")
    except ValueError:  # brackets without an address
        return ""


def _is_wildcard(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False
