"""Values that need more than a type. No message repeats the value: it could be a secret."""

import json
import re
from typing import Any
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr

from replyd.domain.tools import HAND_OVER, NAME_PATTERN

_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
# Stands for an account's SID in the name of its secret.
ACCOUNT_SID = "{account_sid}"
# https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_CreateSecret.html; an ARN has
# colons too.
_SECRET = re.compile(r"[A-Za-z0-9/_+=.@:-]{1,512}")
# Seconds.
_SHORTEST_PAUSE = 5
_TABLE = re.compile(r"[A-Za-z0-9_.-]{3,255}|arn:aws[a-z-]*:dynamodb:[a-z0-9-]+:\d+:table/[\w.-]+")


def _split(url: str) -> SplitResult:
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("must be a URL in ASCII, without spaces")
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - it is parsed when it is read
    except ValueError:
        raise ValueError("must be a URL with a valid host and port") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be a URL that begins with https:// or http:// and names a host")
    if "@" in parts.netloc:
        raise ValueError("must be a URL without a user name and password")
    return parts


def as_url(url: str) -> str:
    """An http(s) URL without the slash at its end, or nothing."""
    if not url:
        return ""
    parts = _split(url)
    if parts.query or parts.fragment:
        raise ValueError("must be a URL without ? and #")
    return url.rstrip("/")


def as_url_prefix(url: str) -> str:
    """A URL below which others are trusted: no wildcard may widen it."""
    if "*" in url:
        raise ValueError("must be a URL without *")
    return as_url(url)


def as_origin(url: str) -> str:
    """Scheme, host and port, as Twilio signs them."""
    if not url:
        return ""
    parts = _split(url)
    if parts.path not in {"", "/"} or "?" in url or "#" in url:
        raise ValueError("must be an origin such as https://hooks.example.com: no path, ? or #")
    if "_" in (parts.hostname or ""):
        raise ValueError(
            "has an underscore in its host name, and Twilio refuses status callbacks to such a "
            "host: use another name"
        )
    return url.rstrip("/")


def as_pause(seconds: float) -> float:
    """Between requests that many processes repeat for ever, or 0 for none."""
    if seconds != 0 and seconds < _SHORTEST_PAUSE:
        raise ValueError(f"must be 0 or at least {_SHORTEST_PAUSE}")
    return seconds


def as_queue_url(url: str) -> str:
    if not url:
        return ""
    if _split(url).path.endswith(".fifo"):
        raise ValueError("must be a standard queue: FIFO queues take no delay per message")
    return url


def as_table(name: str) -> str:
    if name and _TABLE.fullmatch(name) is None:
        raise ValueError(
            "must be the name of a table (3 to 255 of a-z A-Z 0-9 _ . -) or a table's ARN"
        )
    return name


def as_bearer_token(token: SecretStr) -> SecretStr:
    """Also one that a header can carry."""
    text = token.get_secret_value()
    if text and re.fullmatch(r"[!-~]{16,}", text) is None:
        raise ValueError("must be at least 16 characters of ASCII, without spaces")
    return token


def as_secret_name(name: str) -> str:
    if name and _SECRET.fullmatch(name.replace(ACCOUNT_SID, "AC")) is None:
        raise ValueError(
            f"must be a secret's name or ARN (A-Z a-z 0-9 / _ + = . @ : -), {ACCOUNT_SID} for the "
            "SID of the account"
        )
    return name


def as_region(name: str) -> str:
    if re.fullmatch(r"[a-z0-9-]*", name) is None:
        raise ValueError("must be the name of a region, such as eu-west-1")
    return name


def as_account_tokens(value: Any) -> Any:
    """One token alone is a list of one."""
    tokens = [value] if isinstance(value, str) else value
    if isinstance(tokens, list | tuple) and not tokens:
        raise ValueError("takes one token, or two")
    return tokens


def as_words(words: tuple[str, ...]) -> tuple[str, ...]:
    if not all(words):
        raise ValueError("must not contain an empty word")
    return tuple(word.upper() for word in words)


def with_failures(states: tuple[str, ...]) -> tuple[str, ...]:
    """What did not arrive is never left out."""
    return tuple(dict.fromkeys((*states, "undelivered", "failed")))


def uppercased(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def as_endpoint(url: str) -> str:
    """An http(s) URL to call, perhaps with a query, or nothing."""
    if url and (_split(url).fragment or url.endswith("#")):
        raise ValueError("must be a URL without #")
    return url


def as_tool_name(name: str) -> str:
    if re.fullmatch(NAME_PATTERN, name) is None or name == HAND_OVER.name:
        raise ValueError(f"must be named by 1 to 64 of A-Z a-z 0-9 _ -, and not {HAND_OVER.name}")
    return name


def as_profile_name(name: str) -> str:
    if not name.isprintable():
        raise ValueError("must be named by printable characters")
    return name


def as_function(path: str) -> str:
    if path and _FUNCTION.fullmatch(path) is None:
        raise ValueError(
            "must be a module and a function in it, package.module:function, such as "
            "shop.orders:cancel"
        )
    return path


def as_schema(value: Any) -> Any:
    """A JSON Schema, as a table or as JSON text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError("must be a JSON Schema: a table, or JSON text") from None
    if isinstance(value, dict) and value.get("type") != "object":
        raise ValueError('must be a JSON Schema of "type": "object": arguments have names')
    return value


def without_zero(value: Any) -> Any:
    """0 switches a limit off: TOML has no word for nothing."""
    off = isinstance(value, int | str) and not isinstance(value, bool) and str(value).strip() == "0"
    return None if off else value


def as_template_sid(sid: str) -> str:
    if sid and re.fullmatch(r"HX[0-9a-f]{32}", sid) is None:
        raise ValueError("must be the SID of a content template: HX and 32 digits 0-9 a-f")
    return sid


def as_template_variables(variables: dict[str, str]) -> dict[str, str]:
    """https://www.twilio.com/docs/content/using-variables-with-content-api"""
    if not all(re.fullmatch(r"\S{1,16}", name) for name in variables):
        raise ValueError("must have names of 1 to 16 characters, without spaces")
    return variables


def as_messaging_services(services: dict[str, str]) -> dict[str, str]:
    if not all(re.fullmatch(r"\+[1-9][0-9]{6,14}", number) for number in services):
        raise ValueError("must be named by business numbers, such as +447700900100")
    if not all(re.fullmatch(r"MG[0-9a-f]{32}", sid) for sid in services.values()):
        raise ValueError("must be SIDs of Messaging Services: MG and 32 digits 0-9 a-f")
    return services


def unique(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
