"""The connections to one server, over which requests go.

httpx2 looks through all its connections for every request, and takes about 1.7 ms of processor time for one when a
hundred are open; aiohttp takes 0.4 ms (docs/benchmarks.md). So aiohttp carries the requests here, with httpx2's URLs
and errors at the border: nothing else need know. Redirects are not followed, cookies are not kept, and proxies are
looked up once for each host. The number of connections is unbounded: the limit on requests is elsewhere.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import httpx2

from sae_auto_interp.clients._proxy import proxy_for
from sae_auto_interp.clients.http.reply import Reply

if TYPE_CHECKING:
    import aiohttp


class Connections:
    """Sends requests; opens connections as they are needed and uses them again. Belongs to one event loop."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = dict(headers)
        """Sent with every request."""
        self._proxies: dict[str, str | None] = {}

    async def request(
        self, method: str, url: httpx2.URL, *, content: bytes | None, headers: Mapping[str, str]
    ) -> Reply:
        """The answer, whatever its status. There is no time limit but the caller's.

        Raises ConnectError where no connection could be made, DecodingError for a compressed body that is none, and
        ReadError where the connection broke (all of httpx2); InputError where the environment names a proxy that cannot
        be used.
        """
        import aiohttp

        proxy = self._proxy(url)
        try:
            async with self._session.request(
                method, str(url), data=content, headers=headers, allow_redirects=False, proxy=proxy
            ) as reply:
                body = await reply.read()
        except aiohttp.ClientConnectorError as error:
            raise httpx2.ConnectError(_without_login(str(error), proxy)) from None
        except aiohttp.ClientPayloadError as error:
            raise (httpx2.DecodingError if _is_encoding(error) else httpx2.ReadError)(str(error)) from error
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
            headers=self._headers,
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            cookie_jar=aiohttp.DummyCookieJar(),
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


def _is_encoding(error: Exception) -> bool:
    from aiohttp.http_exceptions import ContentEncodingError

    return isinstance(error.__cause__, ContentEncodingError) or "content-encoding" in str(error)
