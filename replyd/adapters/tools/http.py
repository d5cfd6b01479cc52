"""Tools that are HTTP endpoints of the team's own."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from replyd.adapters.tools.box import NAME, readable, unsure
from replyd.adapters.tools.schema import check_schema
from replyd.domain.tools import ToolSpec
from replyd.errors import Busy, DependencyError, Permanent, Temporary
from replyd.ports import ToolContext

MAX_ANSWER_BYTES = 64 * 1024
CONNECT_TIMEOUT_SECONDS = 3.0
METHODS = ("POST", "GET")

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
_SECONDS = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`url`: http or https, with a query if need be. `headers` may hold secrets.

    POST sends `{"tool", "arguments", "conversation_id", "customer", "business", "turn"}` as JSON.
    GET sends the arguments alone, in the query, and hence takes no arrays and objects.

    Raises ValueError, which quotes no header's value."""

    url: str
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"the method must be one of {', '.join(METHODS)}")
        problem = _url_problem(self.url)
        if problem:
            raise ValueError(f"the URL {problem}")
        for name, value in self.headers.items():
            if not _HEADER_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not the name of a header")
            if not _HEADER_VALUE.fullmatch(value):
                raise ValueError(f"the header {name} has a character that headers cannot have")


class HttpTool:
    """One request for each call, never repeated here."""

    def __init__(self, spec: ToolSpec, endpoint: Endpoint, session: aiohttp.ClientSession) -> None:
        """`session` stays the caller's. It should keep no cookies (`aiohttp.DummyCookieJar`): one
        that is set for a customer would come along for the next.

        Raises ValueError when the schema is not valid or does not go with the method. GET is not
        for tools with effects: aiohttp itself repeats it when a pooled connection breaks."""
        check_schema(spec.parameters)
        if endpoint.method == "GET":
            _check_get(spec)
        self.spec = spec
        self._endpoint = endpoint
        self._session = session

    async def run(self, arguments: Mapping[str, Any], call: ToolContext) -> str:
        """The text of a 2xx. A 4xx is a result too: it tells the model what to do otherwise.

        Raises Busy for 429, and for 503 with `Retry-After`; Temporary when nothing was sent;
        Temporary, or Ambiguous for a tool with effects, for a lost answer, 408 and other 5xx;
        Permanent, or Ambiguous for a tool with effects, for a redirect and an answer that is
        neither JSON nor text."""
        failure: DependencyError
        try:
            async with self._session.request(
                self._endpoint.method,
                self._endpoint.url,
                headers=self._headers(call),
                # The box limits the whole; a connection that is not there must show before that.
                timeout=aiohttp.ClientTimeout(
                    connect=min(CONNECT_TIMEOUT_SECONDS, self.spec.timeout_seconds * 0.8)
                ),
                allow_redirects=False,
                **self._content(arguments, call),
            ) as response:
                return await self._result(response)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            failure = self._not_connected(error)
        except (aiohttp.ClientError, OSError):
            failure = unsure(
                self.spec, "lost the connection before its answer", code="disconnected"
            )
        raise failure

    def _headers(self, call: ToolContext) -> dict[str, str]:
        ours = {"Accept": "application/json, text/*"}
        if self.spec.effects:
            ours["Idempotency-Key"] = f"{call.turn}:{self.spec.name}"
        names = {name.lower() for name in ours}
        theirs = {n: v for n, v in self._endpoint.headers.items() if n.lower() not in names}
        return theirs | ours

    def _content(self, arguments: Mapping[str, Any], call: ToolContext) -> dict[str, Any]:
        if self._endpoint.method == "GET":
            return {"params": self._query(arguments)}
        body = {
            "tool": self.spec.name,
            "arguments": dict(arguments),
            "conversation_id": call.conversation_id,
            "customer": call.customer,
            "business": call.business,
            "turn": call.turn,
        }
        return {"json": body}

    def _query(self, arguments: Mapping[str, Any]) -> dict[str, str]:
        """Booleans as in JSON; null is left out."""
        query = {}
        for name, value in arguments.items():
            if isinstance(value, list | dict):
                reason = f"the tool {self.spec.name} takes no arrays and objects: its method is GET"
                raise Permanent(NAME, reason, code="not_scalar")
            if value is not None:
                query[name] = str(value).lower() if isinstance(value, bool) else str(value)
        return query

    async def _result(self, response: aiohttp.ClientResponse) -> str:
        status = response.status
        if 200 <= status < 300:
            text = await _text(response)
            if text is None:
                raise self._useless(status, "and neither JSON nor text")
            return text or f"The tool answered with HTTP {status} and no text."
        if status == 429 or (status == 503 and "Retry-After" in response.headers):
            raise Busy(
                NAME,
                f"the tool {self.spec.name} answered with HTTP {status}",
                code=f"http_{status}",
                delay=_delay(response),
            )
        if status >= 500 or status == 408:
            raise unsure(self.spec, f"answered with HTTP {status}", code=f"http_{status}")
        if status < 400:
            raise self._useless(status, "a redirect, which is not followed")
        try:
            text = await _text(response)
        except (aiohttp.ClientError, OSError):
            text = ""  # the status alone says that nothing was done
        return f"The tool refused with HTTP {status}: {text or '(no text)'}"

    def _useless(self, status: int, what: str) -> DependencyError:
        happening = f"answered with HTTP {status}, {what}"
        if self.spec.effects:
            return unsure(self.spec, happening, code=f"http_{status}")
        return Permanent(NAME, f"the tool {self.spec.name} {happening}", code=f"http_{status}")

    def _not_connected(self, error: Exception) -> DependencyError:
        # Not DependencyDown: one tool that is away is no reason to answer nobody.
        what = "cannot be connected to"
        if isinstance(error, aiohttp.ClientSSLError):
            what = "has no TLS certificate or handshake that can be trusted"
        elif isinstance(error, aiohttp.ClientConnectorDNSError):
            what = "has a host name that cannot be resolved"
        return Temporary(NAME, f"the tool {self.spec.name} {what}", code="unreachable")


async def _text(response: aiohttp.ClientResponse) -> str | None:
    """None for what is neither JSON nor text."""
    data, more = bytearray(), False
    async for chunk in response.content.iter_any():
        data += chunk
        more = len(data) > MAX_ANSWER_BYTES
        if more:
            response.close()
            break
    kind = response.content_type
    if data and not (kind.startswith("text/") or re.fullmatch(r"application/(.+\+)?json", kind)):
        return None
    try:
        text = data.decode(response.charset or "utf-8", errors="replace")
    except (LookupError, ValueError):
        text = data.decode(errors="replace")
    return readable(text, more=more)


def _delay(response: aiohttp.ClientResponse) -> float | None:
    """From `Retry-After` in seconds; a date there says nothing to us."""
    value = response.headers.get("Retry-After", "").strip()
    return float(value) if _SECONDS.fullmatch(value) else None


def _url_problem(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "cannot be read"
    if parts.scheme not in ("https", "http") or not host:
        return "must begin with https:// or http:// and a host"
    if "@" in parts.netloc:
        return "must hold no user and password: put them into a header"
    return "must hold no spaces" if re.search(r"\s", url) else ""


def _check_get(spec: ToolSpec) -> None:
    if spec.effects:
        raise ValueError("a tool with effects needs the method POST")
    for name, schema in spec.parameters.get("properties", {}).items():
        kinds = schema.get("type", ()) if isinstance(schema, Mapping) else ()
        if not {"array", "object"}.isdisjoint([kinds] if isinstance(kinds, str) else kinds):
            raise ValueError(f"{name} is an array or object, which needs the method POST")
