"""`config/replyd.toml` and `docs/configuration.md`, made from the models.

`python -m replyd.settings.reference` writes both, in a checkout; tests check that they are current.
"""

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from replyd.settings.loader import groups, is_required

CONFIG_FILE = Path("config/replyd.toml")
REFERENCE_FILE = Path("docs/configuration.md")

_HEADER = """\
Settings of replyd. A line that begins with # and no space is a setting with its default, or with
an example where there is none: remove the # to set it. docs/configuration.md explains where else
settings can come from. Keep secrets out of this file where you can: OPENAI_API_KEY,
TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN in the environment serve as well."""

_INTRODUCTION = """\
# Configuration

Made from `replyd/settings/groups.py` by `python -m replyd.settings.reference`.

A setting comes from, later ones winning:

1. its default;
2. the TOML file: `--config`, or `config/replyd.toml` where there is one;
3. the environment: `REPLYD_SECTION__KEY`, such as `REPLYD_WINDOW__QUIET_SECONDS=3`;
4. a flag of the command.

Lists and tables in the environment are JSON; a list of words may also be written with commas:
`REPLYD_OPT_OUT__STOP_WORDS="STOP,HALT"`. A setting that does not exist is an error, in the
environment too, where every `REPLYD_…__…` is taken for a setting. What is wrong or missing is
listed, one line each, and the exit code is 78.

Variables that other tools use keep their meaning, and the `REPLYD_…` name wins over them:

| variable | setting |
|---|---|
| `OPENAI_API_KEY`, `OPENAI_BASE_URL` | `ai.api_key`, `ai.base_url` |
| `TWILIO_ACCOUNT_SID` with `TWILIO_AUTH_TOKEN` | adds an account to `twilio.accounts`, or puts \
its token first; not used when `REPLYD_TWILIO__ACCOUNTS` is set |
| `AWS_REGION`, else `AWS_DEFAULT_REGION` | `aws.region` |
| `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_SQS`, `AWS_ENDPOINT_URL_DYNAMODB`, AWS credentials | read \
by AWS's own library |

A secret, `ai.api_key` or a token in `twilio.accounts`, may be a reference, also in the variables
above: `file:/path`, a file with nothing else in it; `file:$CREDENTIALS_DIRECTORY/name`, a
credential that systemd provides (`LoadCredential=`); `env:NAME`, another environment variable.

Durations are seconds. Settings without a default are required by `replyd serve`.
"""


def example_toml() -> str:
    """The text of `config/replyd.toml`."""
    lines = list(_comment(_HEADER))
    for section, group in groups().items():
        lines += ["", "", *_comment(group.__doc__ or ""), f"[{section}]"]
        for key, field in group.model_fields.items():
            lines += ["", *_comment(field.description or "")]
            value = _shown(field)
            if isinstance(value, dict):
                lines.append(f"[{section}.{key}]")
                lines += [f"#{name} = {_toml(item)}" for name, item in value.items()]
            else:
                lines.append(f"#{key} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def markdown() -> str:
    """The text of `docs/configuration.md`."""
    lines = [_INTRODUCTION]
    for section, group in groups().items():
        lines += [f"## `{section}`", "", _flat(group.__doc__ or ""), ""]
        lines += ["| setting | kind | default | meaning |", "|---|---|---|---|"]
        for key, field in group.model_fields.items():
            cells = (
                f"`{section}.{key}`",
                _kind(key, field),
                "required" if is_required(field) else _default(field),
                _flat(field.description or "").replace("|", "\\|"),
            )
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _flat(text: str) -> str:
    return " ".join(text.split())


def _comment(text: str) -> Iterator[str]:
    for line in textwrap.wrap(_flat(text), width=94, break_long_words=False):
        yield f"# {line}"


def _shown(field: FieldInfo) -> Any:
    """The default, or an example where the default cannot be written down."""
    return field.examples[0] if field.examples else field.get_default(call_default_factory=True)


def _toml(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    # Numbers, booleans and text are written alike in JSON and TOML.
    return json.dumps(value, ensure_ascii=False)


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is None:
        return "see right"
    if value in ("", ()) or isinstance(value, SecretStr):
        return "empty"
    return f"`{_toml(value)}`"


def _kind(key: str, field: FieldInfo) -> str:
    kinds = [field.annotation]
    if get_origin(kinds[0]) in {Union, UnionType}:
        kinds = [k for k in get_args(kinds[0]) if k is not NoneType]
    kind = kinds[0]
    kind = get_args(kind)[0] if hasattr(kind, "__metadata__") else kind
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    if get_origin(kind) in {tuple, dict}:
        return "list" if get_origin(kind) is tuple else "table"
    if key.endswith("_seconds"):
        return "seconds, whole" if kind is int else "seconds"
    names: dict[Any, str] = {int: "whole number", bool: "true or false", SecretStr: "secret"}
    return names.get(kind, "text")


if __name__ == "__main__":
    CONFIG_FILE.write_text(example_toml(), "utf-8")
    REFERENCE_FILE.write_text(markdown(), "utf-8")
