"""The proxy that the environment names for a host: aiohttp would look it up, and .netrc too, for every request."""

from urllib.request import getproxies, proxy_bypass

import httpx2

from sae_auto_interp.errors import InputError


def proxy_for(url: httpx2.URL) -> str | None:
    """The address of an HTTP proxy, by HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY; `host:port` is one too.

    Raises InputError for another kind of proxy and for what is no address. It does not repeat the address, which may
    hold a password.
    """
    proxies = {} if proxy_bypass(url.host) else getproxies()
    name = next((name for name in (url.scheme, "all") if name in proxies), None)
    if name is None:
        return None
    address = proxies[name] if "://" in proxies[name] else f"http://{proxies[name]}"
    problem = _problem(address)
    if problem is not None:
        raise InputError(
            f"the environment variable {name.upper()}_PROXY {problem}; set it to http://HOST:PORT, or add {url.host} "
            "to NO_PROXY to do without"
        )
    return address


def _problem(address: str) -> str | None:
    """What is wrong with the address of a proxy, if anything is."""
    try:
        proxy = httpx2.URL(address)
    except httpx2.InvalidURL:
        return "is no address of a proxy"
    if proxy.scheme not in ("http", "https"):
        return f"names a proxy of another kind than HTTP ({proxy.scheme})"
    return None if proxy.host else "names no host"
