"""Who a request comes from, where one client's requests are counted together."""

from __future__ import annotations

from ipaddress import IPv6Network

from starlette.types import Scope

#: In a request's state: the id of its key, where it has one.
KEY_ID = "key_id"


def holder(scope: Scope) -> str:
    """The request's key, if it has one that is valid, else its peer."""
    key: str | None = scope["state"].get(KEY_ID)
    return key or peer(scope)


def peer(scope: Scope) -> str:
    """The address that the connection comes from; of IPv6 the network of one subscriber, who has 2^64 addresses."""
    client = scope.get("client")
    address = client[0] if client else ""
    if ":" not in address:
        return address
    try:
        return str(IPv6Network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address
