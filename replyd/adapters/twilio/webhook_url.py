"""Where the webhook of a number should lead, and how its URL is shown.

The overrides: https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides. They stand
in the URL's fragment, which Twilio reads and does not send.
"""

from collections.abc import Iterator
from urllib.parse import SplitResult, parse_qsl, urlsplit

# Three retries whatever went wrong, where Twilio has one, and only for failures to connect.
OVERRIDES = {"rc": "3", "rp": "all"}

_DEFAULT_PORTS = {"https": ":443", "http": ":80"}


def leads_to(url: str, target: str) -> bool:
    """Whether a webhook with `url` comes to `target`, an origin and a path, with a signature that
    fits there. Query and overrides do not count; credentials in the URL do."""
    given, wanted = _split(url), _split(target)
    return (*_origin(given), given.path) == (*_origin(wanted), wanted.path)


def same_host(url: str, target: str) -> bool:
    return _split(url).hostname == _split(target).hostname is not None


def wanted(url: str, target: str) -> str:
    """`url` as it should be: one that leads to `target` keeps its query and its own overrides."""
    base = url if leads_to(url, target) else target
    added = "&".join(f"{name}={OVERRIDES[name]}" for name in missing_overrides(base))
    if not added:
        return base
    plain, _, fragment = base.partition("#")
    return f"{plain}#{fragment}&{added}" if fragment else f"{plain}#{added}"


def missing_overrides(url: str) -> tuple[str, ...]:
    """The names that `url` leaves to Twilio's default. Other values than ours are somebody's
    choice."""
    given = {name for name, _ in parse_qsl(_split(url).fragment, keep_blank_values=True)}
    return tuple(name for name in OVERRIDES if name not in given)


def shown(url: str) -> str:
    """Without what may be secret, credentials and the query's values, and on one line."""
    parts = _split(url)
    if not parts.netloc:
        return "what is no URL" if url else "nowhere"
    host = parts.netloc.rpartition("@")[2]
    query = f"?{'&'.join(_hidden(parts.query))}" if parts.query else ""
    fragment = f"#{parts.fragment}" if parts.fragment else ""
    text = f"{parts.scheme}://{host}{parts.path}{query}{fragment}"
    return "".join(c if c.isprintable() else "�" for c in text)


def _hidden(query: str) -> Iterator[str]:
    for name, _ in parse_qsl(query, keep_blank_values=True):
        yield f"{name}=…"


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return urlsplit("")
    return parts


def _origin(parts: SplitResult) -> tuple[str, str]:
    # Twilio's signature, in which the host's case counts, is good with and without this port.
    return parts.scheme, parts.netloc.removesuffix(_DEFAULT_PORTS.get(parts.scheme, ""))
