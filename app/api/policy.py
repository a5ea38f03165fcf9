"""What each route needs and does, declared on its endpoint.

A route that declares nothing can't be built, and what a declaration leaves out is the strictest: an administrator's key
for all galleries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, TypeVar

from starlette.routing import BaseRoute

from app.api_key import Scope

E = TypeVar("E", bound=Callable[..., Any])

_ATTRIBUTE = "route_policy"


class GalleryIn(Enum):
    """Where a request names the gallery that its key must be for."""

    ALL = auto()  # nowhere: it is about all galleries
    NONE = auto()  # nowhere: it is about none
    QUERY = auto()  # in the parameter `gallery`
    PATH = auto()  # in the path, as `name`
    BODY = auto()  # the endpoint reads it, and checks
    ANSWER = auto()  # the endpoint leaves out the galleries that the key is not for


@dataclass(frozen=True)
class Policy:
    """The facts about a route. `scope` is None where no key is needed.

    `writes`: it changes a gallery. `viewed`: it is answered from the views in memory, also while the store is away.
    `quiet`: it is asked every few seconds and says nothing about the service's work, so it is not traced, and logged at
    level debug only.
    """

    scope: Scope | None = Scope.ADMIN
    gallery: GalleryIn = GalleryIn.ALL
    writes: bool = False
    viewed: bool = False
    quiet: bool = False

    @property
    def is_probe(self) -> bool:
        """Whether it is for supervisors, which ask without a key and by whatever host name."""
        return self.quiet and self.scope is None


def needs(
    scope: Scope,
    gallery: GalleryIn = GalleryIn.ALL,
    *,
    writes: bool = False,
    viewed: bool = False,
    quiet: bool = False,
) -> Callable[[E], E]:
    """Declare that an endpoint needs a key with this scope, for the gallery that the request names."""
    return _declare(Policy(scope, gallery, writes, viewed, quiet))


def open_to_all(*, quiet: bool = False) -> Callable[[E], E]:
    """Declare that an endpoint needs no key."""
    return _declare(Policy(None, GalleryIn.NONE, quiet=quiet))


def _declare(policy: Policy) -> Callable[[E], E]:
    def declare(endpoint: E) -> E:
        setattr(endpoint, _ATTRIBUTE, policy)
        return endpoint

    return declare


def policy_of(endpoint: Callable[..., Any]) -> Policy:
    """What the endpoint declares. Raises TypeError when that is nothing."""
    policy = getattr(endpoint, _ATTRIBUTE, None)
    if not isinstance(policy, Policy):
        raise TypeError(f"{endpoint.__module__}.{endpoint.__qualname__} must declare what it needs: @needs(...)")
    return policy


def with_policies(routes: Iterable[BaseRoute]) -> Iterator[tuple[Any, Policy]]:
    """The routes that have a policy, with it."""
    for route in routes:
        if (policy := route_policy(route)) is not None:
            yield route, policy


def route_policy(route: BaseRoute | None) -> Policy | None:
    """The route's policy. None without a route, and for pages that are no endpoints, such as mounted files."""
    return getattr(route, "policy", None)


def paths_where(routes: Iterable[BaseRoute], holds: Callable[[Policy], bool]) -> frozenset[str]:
    """The paths of the routes whose policy passes."""
    return frozenset(route.path for route, policy in with_policies(routes) if holds(policy))
