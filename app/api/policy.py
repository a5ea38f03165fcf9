"""What each route requires and does, declared on its endpoint.

A route without a declaration can't be built. Omitted values are the strictest: an admin key for all galleries.
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
    """Where a request names the gallery that its key must allow."""

    ALL = auto()  # nowhere: it concerns all galleries
    NONE = auto()  # nowhere: it concerns none
    QUERY = auto()  # in the query parameter `gallery`
    PATH = auto()  # in the path, as `name`
    BODY = auto()  # in the body: the endpoint checks it
    ANSWER = auto()  # the endpoint omits galleries that the key does not allow


@dataclass(frozen=True)
class Policy:
    """The properties of a route. `scope` is None if no key is needed.

    `writes`: it changes a gallery. `viewed`: it is answered from the views in memory, even while the store is
    unavailable. `quiet`: it is polled every few seconds and is not part of the service's work, so it is not traced, and
    logged at level debug only.
    """

    scope: Scope | None = Scope.ADMIN
    gallery: GalleryIn = GalleryIn.ALL
    writes: bool = False
    viewed: bool = False
    quiet: bool = False

    @property
    def is_probe(self) -> bool:
        """Whether it is for supervisors, which poll without a key and under any host name."""
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
    """The endpoint's declaration. Raises TypeError if it has none."""
    policy = getattr(endpoint, _ATTRIBUTE, None)
    if not isinstance(policy, Policy):
        raise TypeError(f"{endpoint.__module__}.{endpoint.__qualname__} must declare what it needs: @needs(...)")
    return policy


def with_policies(routes: Iterable[BaseRoute]) -> Iterator[tuple[Any, Policy]]:
    """The routes with a policy, and their policies."""
    for route in routes:
        if (policy := route_policy(route)) is not None:
            yield route, policy


def route_policy(route: BaseRoute | None) -> Policy | None:
    """The route's policy. None without a route, and for mounted files."""
    return getattr(route, "policy", None)


def paths_where(routes: Iterable[BaseRoute], holds: Callable[[Policy], bool]) -> frozenset[str]:
    """The paths of the routes whose policy satisfies `holds`."""
    return frozenset(route.path for route, policy in with_policies(routes) if holds(policy))
