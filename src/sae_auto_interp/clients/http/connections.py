"""The connections to one server, over which requests go.

httpx2 looks through all its connections for every request, and takes about 1.7 ms of processor time for one when a
hundred are open; aiohttp takes 0.4 ms (docs/benchmarks.md). So aiohttp carries the requests here, with httpx2's URLs
and errors at the border: nothing else need know. Redirects are not followed, cookies are not kept, and proxies are
looked up once for each host. The number of connections is unbounded: the limit on requests is elsewhere.

The proxy that the environment names for a host: aiohttp would look it up, and .netrc too, for every request.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.request import getproxies, proxy_bypass

import httpx2

from sae_auto_interp.clients.http.bodies import ACCEPTED, MOST_BYTES, PackedBodyError, TooLongBodyError, read_body
from sae_auto_interp.clients.http.reply import Reply
from sae_auto_interp.errors import InputError

if TYPE_CHECKING:
    import aiohttp


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


class Connections:
    """Sends requests; opens connections as they are needed and uses them again. Belongs to one event loop."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = dict(headers)
        """Sent with every request."""
        self._proxies: dict[str, str | None] = {}

    async def request(
        self,
        method: str,
        url: httpx2.URL,
        *,
        content: bytes | None,
        headers: Mapping[str, str],
        most_bytes: int = MOST_BYTES,
    ) -> Reply:
        """The answer, whatever its status. There is no time limit but the caller's.

        Raises ConnectError where no connection could be made, DecodingError for a compressed body that is none or a
        body of more than `most_bytes`, and ReadError where the connection broke (all of httpx2); InputError where the
        environment names a proxy that cannot be used.
        """
        import aiohttp

        proxy = self._proxy(url)
        try:
            async with self._session.request(
                method, str(url), data=content, headers=headers, allow_redirects=False, proxy=proxy
            ) as reply:
                packing = reply.headers.get("Content-Encoding", "")
                body = await read_body(reply.content.iter_any(), packing, most_bytes)
        except aiohttp.ClientConnectorError as error:
            raise httpx2.ConnectError(_without_login(str(error), proxy)) from None
        except TooLongBodyError:
            raise httpx2.DecodingError(f"it is longer than {most_bytes >> 20:,} MiB") from None
        except PackedBodyError as error:
            raise httpx2.DecodingError(str(error)) from None
        except aiohttp.ClientPayloadError as error:
            raise httpx2.ReadError(str(error)) from error
        except aiohttp.ClientError as error:  # its own text may name the proxy's user and password
            raise httpx2.ReadError(_without_login(f"{type(error).__name__}: {error}", proxy)) from None
        return Reply(str(url), reply.status, reply.reason or "", reply.headers, body)

    async def aclose(self) -> None:
        """Close the connections; the next request opens new ones, in another event loop too."""
        session: aiohttp.ClientSession | None = self.__dict__.pop("_session", None)
        if session is not None:
            await session.close()

    @cached_property
    def _session(self) -> "aiohttp.ClientSession":
        import aiohttp

        return aiohttp.ClientSession(
            headers={**self._headers, "Accept-Encoding": ACCEPTED},
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    def _proxy(self, url: httpx2.URL) -> str | None:
        if url.host not in self._proxies:
            self._proxies[url.host] = proxy_for(url)
        return self._proxies[url.host]


def _without_login(text: str, proxy: str | None) -> str:
    """An error's text without what the address of a proxy says before the host."""
    login = "" if proxy is None else httpx2.URL(proxy).userinfo.decode("ascii", "replace")
    secrets = [login, login.partition(":")[2]]
    for secret in filter(None, secrets):
        text = text.replace(secret, "[redacted]")
    return text
