"""Identifies the client of a request, for limits per client."""

from __future__ import annotations

from ipaddress import IPv6Network

from starlette.types import Scope

#: Name in a request's state: the id of its key, if it has one.
KEY_ID = "key_id"


def holder(scope: Scope) -> str:
    """The request's key if it has a valid one, else its peer."""
    key: str | None = scope["state"].get(KEY_ID)
    return key or peer(scope)


def peer(scope: Scope) -> str:
    """The address of the connection. For IPv6 it is the /64 network, because one subscriber has 2^64 addresses."""
    client = scope.get("client")
    address = client[0] if client else ""
    if ":" not in address:
        return address
    try:
        return str(IPv6Network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address
