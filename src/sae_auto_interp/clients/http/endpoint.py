"""One HTTP endpoint: a path and a body go in, an answer or the right `ClientError` comes out.

Nothing is retried and nothing is limited here: wrappers do that, so the pool of connections is unbounded on purpose.
What the server says reaches an error message only through `ApiKey.quote`, which takes the key out.

A lock on the purse: with SAE_AUTO_INTERP_NO_PAID_CALLS set, nothing is sent to a server beyond this machine.

The tests set it, for themselves and for the commands that they run. Anyone who works on the code may.
"""

import asyncio
import ipaddress
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

import httpx2

from sae_auto_interp.clients.http.api_key import ApiKey
from sae_auto_interp.clients.http.bodies import MOST_BYTES
from sae_auto_interp.clients.http.connections import Connections
from sae_auto_interp.clients.http.failures import error_for_status
from sae_auto_interp.clients.http.json_values import JsonObject, as_object
from sae_auto_interp.clients.http.reply import Reply
from sae_auto_interp.errors import (
    BrokenReplyError,
    ClientError,
    InputError,
    RefusedRequestError,
    TimeoutExceededError,
    UnreachableError,
)

VARIABLE = "SAE_AUTO_INTERP_NO_PAID_CALLS"


def refuse_paid_call(host: str) -> None:
    """Raise RefusedRequestError where the lock is set and `host` is another machine."""
    if os.environ.get(VARIABLE) and not is_this_machine(host):
        raise RefusedRequestError(f"{VARIABLE} is set, and {host} may charge for an answer: nothing was sent")


def is_this_machine(host: str) -> bool:
    """Return whether a host name or address is that of the loopback device."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, kw_only=True, eq=False)
class HttpEndpoint:
    """Sends to `base_url`; raises InputError when built with an address or a time that cannot be used."""

    base_url: str
    key: ApiKey
    headers: Mapping[str, str] = field(repr=False)
    """Sent with every request; how the key is sent is the API's own business."""
    timeout_seconds: float
    """Longest wait for one complete answer, connecting included."""

    def __post_init__(self) -> None:
        _require_usable_url(self.base_url)
        if self.key.is_in(self.base_url):
            raise InputError(
                f"base_url holds the key of {self.key.variable}; it is sent anyhow, and is shown nowhere else"
            )
        if not self.timeout_seconds > 0:
            raise InputError(f"timeout_seconds is {self.timeout_seconds}; it must be above 0")

    async def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        content_type: str = "application/json",
        *,
        most_bytes: int = MOST_BYTES,
    ) -> Reply:
        """The answer, whatever its status, without the key.

        Raises UnreachableError, TimeoutExceededError, or BrokenReplyError where the body cannot be unpacked or is of
        more than `most_bytes`.
        """
        url = _endpoint(self.base_url, path)
        refuse_paid_call(url.host)
        headers = {"Content-Type": content_type} if body is not None else {}
        try:
            async with asyncio.timeout(self.timeout_seconds):
                response = await self._http.request(method, url, content=body, headers=headers, most_bytes=most_bytes)
        except (TimeoutError, httpx2.TimeoutException):
            raise TimeoutExceededError(
                f"no answer from {url} within {self.timeout_seconds:g} s; raise timeout_seconds if the server is slow"
            ) from None
        except httpx2.DecodingError as error:
            raise BrokenReplyError(f"{url} sent a body that cannot be read: {self.key.quote(str(error))}") from None
        except httpx2.RequestError as error:
            cause = self.key.quote(str(error)) or type(error).__name__
            raise UnreachableError(
                f"no connection to {url}, or it broke ({cause}): is the server running?",
                was_sent=not isinstance(error, httpx2.ConnectError),
            ) from None  # its own text may hold the key, where a server's broken header repeats it
        return self._without_key(response)

    def error(self, response: Reply) -> ClientError:
        """The error for an answer that is no success."""
        return error_for_status(response, self.key.quote, self._advice(response.status_code))

    def object_in(self, response: Reply) -> JsonObject:
        """The JSON object of a success. Raises `error` for anything else, BrokenReplyError for another body."""
        if not response.is_success:
            raise self.error(response)
        try:
            return as_object(json.loads(response.content))
        except (ValueError, RecursionError):
            start = self.key.quote(response.text) or "(empty body)"
            raise BrokenReplyError(f"the answer of {response.url} is not JSON: {start}") from None

    async def close(self) -> None:
        """Close the connections; new ones are opened if it is used again, in another event loop too."""
        http = self.__dict__.pop("_http", None)
        if http is not None:
            await http.aclose()

    def _without_key(self, response: Reply) -> Reply:
        content = response.content[:_MOST_BYTES_OF_ERROR] if response.is_error else response.content
        content = self.key.taken_out_of(content)
        return response if content is response.content else replace(response, content=content)

    @cached_property
    def _http(self) -> Connections:
        return Connections(self.headers)

    def _advice(self, status: int) -> str:
        if status in (401, 403) and not self.key:
            return f" (no API key was sent: the environment variable {self.key.variable} is not set)"
        if status == 404 and "/v1" not in self.base_url:
            return f" (base_url has no /v1; most servers answer at {self.base_url.rstrip('/')}/v1)"
        return ""


def _require_usable_url(base_url: str) -> None:
    example = "write for example http://127.0.0.1:8000/v1"
    try:
        url = httpx2.URL(base_url)
    except httpx2.InvalidURL as error:
        raise InputError(f"base_url is not a URL ({error}); {example}") from None
    if url.userinfo:
        raise InputError("base_url holds a user name or password; put the secret into the variable of api_key_env")
    secret = next((name for name in url.params if name.lower() in _NAMES_OF_SECRETS), None)
    if secret is not None:
        raise InputError(
            f"base_url holds a secret ({secret}=...), and is stored; put it into the variable of api_key_env"
        )
    if url.scheme not in ("http", "https") or not url.host:
        raise InputError(f"base_url {base_url!r} is not an http or https address; {example}")


_MOST_BYTES_OF_ERROR = 1 << 18
"""More of an error's body is not looked at."""


_NAMES_OF_SECRETS = frozenset({"key", "api_key", "api-key", "apikey", "token", "access_token", "sig", "signature"})


@lru_cache(maxsize=64)
def _endpoint(base_url: str, path: str) -> httpx2.URL:
    """`base_url` with the path appended, or another path of its host where that begins with a slash.

    A query, as in ?api-version=..., stays."""
    url = httpx2.URL(base_url)
    bare, _, query = path.partition("?")
    merged = url.copy_with(path=bare if bare.startswith("/") else f"{url.path.rstrip('/')}/{bare}")
    return merged.copy_merge_params(httpx2.QueryParams(query)) if query else merged
