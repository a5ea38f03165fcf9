"""Chooses the proxy for the service, from the usual environment variables.

httpx would parse them for all hosts, and fails on entries that it can't parse (an IPv6 address or a network in
`NO_PROXY`). A client has only one host.
"""

from __future__ import annotations

import ipaddress
from urllib.request import getproxies, proxy_bypass

import httpx

from oneshot_client.errors import UnreachableError


def proxy_for(url: str) -> httpx.Proxy | None:
    """The proxy for the service at `url`, or None. Raises UnreachableError for an unsupported proxy."""
    target = httpx.URL(url)
    proxies = getproxies()
    address = proxies.get(target.scheme) or proxies.get("all")
    if not address or _is_excepted(target.host, proxies.get("no", "")):
        return None
    try:
        proxy = httpx.Proxy(address if "://" in address else f"http://{address}")
        httpx.HTTPTransport(proxy=proxy, verify=False).close()
    except (ValueError, ImportError, httpx.InvalidURL) as error:
        wanted = "set NO_PROXY for this host, or pip install 'httpx[socks]'" if "socks" in address else "set NO_PROXY"
        raise UnreachableError(f"the proxy for {url} can't be used ({error}); {wanted}") from error
    return proxy


def _is_excepted(host: str, exceptions: str) -> bool:
    if proxy_bypass(host):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return any(_holds(each.strip().strip("[]"), address) for each in exceptions.split(","))


def _holds(network: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
