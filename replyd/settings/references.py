"""Secrets that lie elsewhere: `file:/path`, `file:$CREDENTIALS_DIRECTORY/name`, `env:NAME`,
`secretsmanager:name#key`.

No message repeats a secret; it names the file, the variable or the secret that was looked for.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from replyd.errors import DependencyError, Permanent

# By the name of a secret its text, or why it cannot be had: Permanent with the end of a sentence
# that begins with the name.
Found: TypeAlias = Mapping[str, str | DependencyError]
# Looks secrets up, by their names or ARNs and the region, which may be empty.
LookUp: TypeAlias = Callable[[Collection[str], str], Found]

# Far more than any key or token; a wrong path may lead to anything, /dev/zero included.
MAX_BYTES = 64 * 1024
# What a secret is taken for that is not looked up: long enough for any.
STAND_IN = "a-secret-that-was-not-looked-up"

_CREDENTIALS = "CREDENTIALS_DIRECTORY"
_CREDENTIAL = f"${_CREDENTIALS}/"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEPT = re.compile(r"(?P<name>[A-Za-z0-9/_+=.@:-]{1,2048})(?:#(?P<key>[!-~]{1,255}))?")
_KINDS = ("env", "file", "secretsmanager")


def holds_secret(field: FieldInfo) -> bool:
    """Whether the setting may hold references."""
    return SecretStr.__name__ in repr(field.annotation)


def names(value: Any) -> Iterator[str]:
    """The secrets in Secrets Manager that a setting's value refers to."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from names(item)
    elif isinstance(value, str):
        kind, target = _parts(value)
        if kind == "secretsmanager" and (found := _KEPT.fullmatch(target)):
            yield found["name"]


def resolved(value: Any, environ: Mapping[str, str], found: Found) -> Any:
    """The setting's value with each reference replaced by what it leads to. `found`: of the
    secrets in `names`.

    Raises ValueError, with the end of a sentence, for one that leads nowhere, and the
    DependencyError that was found for now in place of a secret."""
    if isinstance(value, Mapping):
        return {key: resolved(item, environ, found) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [resolved(item, environ, found) for item in value]
    return _secret(value, environ, found) if isinstance(value, str) else value


def form_checked(value: Any) -> Any:
    """The setting's value with STAND_IN for each reference: nothing is looked up.

    Raises ValueError, with the end of a sentence, for a reference that could lead nowhere."""
    if isinstance(value, Mapping):
        return {key: form_checked(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [form_checked(item) for item in value]
    kind, target = _parts(value) if isinstance(value, str) else ("", "")
    match kind:
        case "env":
            _variable(target)
        case "file":
            _path(target.removeprefix(f"${_CREDENTIALS}") if _in_credentials(target) else target)
        case "secretsmanager":
            _kept(target)
        case _:
            return value
    return STAND_IN


def _parts(text: str) -> tuple[str, str]:
    kind, colon, target = text.strip().partition(":")
    return (kind, target) if colon and kind in _KINDS else ("", "")


def _secret(text: str, environ: Mapping[str, str], found: Found) -> str:
    kind, target = _parts(text)
    match kind:
        case "env":
            secret = _from_variable(target, environ)
        case "file":
            secret = _from_file(target, environ)
        case "secretsmanager":
            secret = _from_secrets_manager(target, found)
        case _:
            return text
    if _parts(secret)[0]:
        raise ValueError(f"it refers by {kind}: to another reference: set that one instead")
    return secret


def _from_secrets_manager(target: str, found: Found) -> str:
    match = _kept(target)
    name, key = match["name"], match["key"]
    text = found.get(name)
    if text is None:
        raise ValueError(f"it refers to the secret {name}, and nobody looked for it")
    if isinstance(text, Permanent):
        raise ValueError(f"it refers to the secret {name}, which {text.reason}")
    if isinstance(text, DependencyError):
        raise text
    secret = _of_key(text, key) if key else text.strip()
    if not secret:
        at = f"the text at the key {key} of " if key else ""
        raise ValueError(f"it refers to {at}the secret {name}, and there is none")
    return secret


def _kept(target: str) -> re.Match[str]:
    match = _KEPT.fullmatch(target)
    if match is None:
        raise ValueError(
            "secretsmanager: must be followed by the name or ARN of a secret, and for a secret in "
            "JSON by # and a key"
        )
    return match


def _of_key(text: str, key: str) -> str:
    """Empty where there is no such text."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    value = fields.get(key) if isinstance(fields, dict) else None
    return value.strip() if isinstance(value, str) else ""


def _from_variable(name: str, environ: Mapping[str, str]) -> str:
    if not (value := environ.get(_variable(name), "").strip()):
        raise ValueError(f"it refers to the environment variable {name}, which is not set or empty")
    return value


def _variable(name: str) -> str:
    if _VARIABLE.fullmatch(name) is None:
        raise ValueError("env: must be followed by the name of an environment variable")
    return name


def _from_file(target: str, environ: Mapping[str, str]) -> str:
    if _in_credentials(target):
        if not (directory := environ.get(_CREDENTIALS, "")):
            raise ValueError(
                f"it refers to {target}, and {_CREDENTIALS} is not set: systemd sets it where the "
                "unit has LoadCredential="
            )
        target = f"{directory}/{target.removeprefix(_CREDENTIAL)}"
    try:
        with _path(target).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{target} cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise ValueError(f"{target} holds no secret: it has more than {MAX_BYTES} bytes")
    try:
        secret = content.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise ValueError(f"{target} holds no secret: it is not UTF-8 text") from None
    if not secret:
        raise ValueError(f"{target} is empty")
    return secret


def _in_credentials(target: str) -> bool:
    return target.startswith(_CREDENTIAL)


def _path(target: str) -> Path:
    if not target.startswith("/"):
        raise ValueError(
            f"file: must be followed by an absolute path, or by {_CREDENTIAL} and a name"
        )
    if "\0" in target:
        raise ValueError("file: must be followed by a path without NUL")
    return Path(target)
