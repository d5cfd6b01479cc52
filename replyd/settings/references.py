"""Secrets that lie elsewhere: `file:/path`, `file:$CREDENTIALS_DIRECTORY/name`, `env:NAME`.

No message repeats a secret; it names the file or the variable that was looked for.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

# Far more than any key or token; a wrong path may lead to anything, /dev/zero included.
MAX_BYTES = 64 * 1024

_CREDENTIALS = "CREDENTIALS_DIRECTORY"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def holds_secret(field: FieldInfo) -> bool:
    """Whether the setting may hold references."""
    return SecretStr.__name__ in repr(field.annotation)


def resolved(value: Any, environ: Mapping[str, str]) -> Any:
    """The setting's value with each reference replaced by what it leads to.

    Raises ValueError, with the end of a sentence, for one that leads nowhere."""
    if isinstance(value, Mapping):
        return {key: resolved(item, environ) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [resolved(item, environ) for item in value]
    return _secret(value, environ) if isinstance(value, str) else value


def _secret(text: str, environ: Mapping[str, str]) -> str:
    kind, _, target = text.strip().partition(":")
    if kind == "file":
        return _from_file(target, environ)
    return _from_variable(target, environ) if kind == "env" else text


def _from_variable(name: str, environ: Mapping[str, str]) -> str:
    if _VARIABLE.fullmatch(name) is None:
        raise ValueError("env: must be followed by the name of an environment variable")
    if not (value := environ.get(name, "").strip()):
        raise ValueError(f"it refers to the environment variable {name}, which is not set or empty")
    return value


def _from_file(target: str, environ: Mapping[str, str]) -> str:
    variable = f"${_CREDENTIALS}/"
    if target.startswith(variable):
        if not (directory := environ.get(_CREDENTIALS, "")):
            raise ValueError(
                f"it refers to {target}, and {_CREDENTIALS} is not set: systemd sets it where the "
                "unit has LoadCredential="
            )
        target = f"{directory}/{target.removeprefix(variable)}"
    if not target.startswith("/"):
        raise ValueError(f"file: must be followed by an absolute path, or by {variable} and a name")
    try:
        with Path(target).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{target} cannot be read: {error.strerror}") from None
    except ValueError:
        raise ValueError("file: must be followed by a path without NUL") from None
    if len(content) > MAX_BYTES:
        raise ValueError(f"{target} holds no secret: it has more than {MAX_BYTES} bytes")
    try:
        secret = content.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise ValueError(f"{target} holds no secret: it is not UTF-8 text") from None
    if not secret:
        raise ValueError(f"{target} is empty")
    return secret
