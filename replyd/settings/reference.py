"""`config/replyd.toml` and `docs/configuration.md`, made from the models.

`python -m replyd.settings.reference` writes both, in a checkout; tests check that they are current.
"""

import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from replyd.settings import schema
from replyd.settings.descriptions import description
from replyd.settings.names import Path as Location
from replyd.settings.names import dotted
from replyd.settings.schema import Group, Tables

CONFIG_FILE = Path("config/replyd.toml")
REFERENCE_FILE = Path("docs/configuration.md")

_HEADER = """\
Settings of replyd. A line that begins with # and no space is a setting with its default, or with
an example where there is none: remove the # to set it. Tables whose own line has a # are examples.
docs/configuration.md explains where else
settings can come from. Keep secrets out of this file where you can: OPENAI_API_KEY,
TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN in the environment serve as well."""

_INTRODUCTION = """\
# Configuration

Made from the models in `replyd/settings` by `python -m replyd.settings.reference`.

A setting comes from, later ones winning:

1. its default;
2. the TOML file: `--config`, or `config/replyd.toml` where there is one;
3. the environment: `REPLYD_SECTION__KEY`, such as `REPLYD_WINDOW__QUIET_SECONDS=3`;
4. a flag of the command.

A table inside a section has its name between: `REPLYD_AI__ASSISTANTS__ON_GONE=handoff`,
`REPLYD_AI__PROFILES__SALES__MODEL=…`, `REPLYD_TOOLS__FIND_ORDER__URL=…`. Names are lowercased: a
profile, tool or model whose name has capitals, or characters that a variable cannot have, must be
set in the file, or with a whole table as JSON.

Lists and tables in the environment are JSON: `REPLYD_AI__PROFILES='{"sales": {"model": "…"}}'`,
`REPLYD_TOOLS='{…}'`, `REPLYD_PRICES='{…}'`. They take the place of the file's. A list of words may
also be written with commas: `REPLYD_OPT_OUT__STOP_WORDS="STOP,HALT"`. A setting that does not
exist is an error, in the environment too, where every `REPLYD_…__…` is taken for a setting. What is
wrong or missing is listed, one line each, and the exit code is 78.

Variables that other tools use keep their meaning, and the `REPLYD_…` name wins over them:

| variable | setting |
|---|---|
| `OPENAI_API_KEY`, `OPENAI_BASE_URL` | `ai.api_key`, `ai.base_url` |
| `TWILIO_ACCOUNT_SID` with `TWILIO_AUTH_TOKEN` | adds an account to `twilio.accounts`, or puts \
its token first; not used when `REPLYD_TWILIO__ACCOUNTS` is set |
| `AWS_REGION`, else `AWS_DEFAULT_REGION` | `aws.region` |
| `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_SQS`, `AWS_ENDPOINT_URL_DYNAMODB`, \
`AWS_ENDPOINT_URL_SECRETS_MANAGER`, AWS credentials | read by AWS's own library |

A secret may be a reference, also in the variables above: `ai.api_key` and that of a profile,
`ai.identifier_key`, `voice.api_key`, a header of a tool, a token in `twilio.accounts`.

| reference | stands for |
|---|---|
| `env:NAME` | another environment variable |
| `file:/path` | the text of a file, without the blanks around it |
| `file:$CREDENTIALS_DIRECTORY/name` | a credential that systemd provides (`LoadCredential=`) |
| `secretsmanager:name` | a secret in AWS Secrets Manager, by its name or ARN |
| `secretsmanager:name#key` | the value of a key of a secret that is a JSON object |

They are followed once, when `replyd serve` or `replyd check` starts: a new value needs a restart,
but for tokens in `twilio.secret_name`. Other commands need no secret and look none up, and neither
does the role `webhook` those of the AI.

Durations are seconds. Settings without a default are required by `replyd serve`.
"""


def example_toml() -> str:
    """The text of `config/replyd.toml`."""
    lines = list(_comment(_HEADER))
    for section, node in schema.children(schema.ROOT).items():
        lines += ["", "", *_toml_part(schema.ROOT, (section,), node)]
    return "\n".join(lines) + "\n"


def markdown() -> str:
    """The text of `docs/configuration.md`."""
    lines = [_INTRODUCTION]
    for section, node in schema.children(schema.ROOT).items():
        lines += _markdown_part(schema.ROOT, (section,), node)
    return "\n".join(lines)


# --- TOML --------------------------------------------------------------------------------------


def _toml_part(parent: Group, at: Location, node: schema.Node) -> Iterator[str]:
    if isinstance(node, Group):
        yield from _comment(node.model.__doc__ or "")
        yield f"[{dotted(*at)}]"
        # What follows a table's header belongs to the table.
        for key, inner in sorted(schema.children(node).items(), key=lambda item: _late(item[1])):
            yield ""
            yield from _toml_part(node, (*at, key), inner)
    elif isinstance(node, Tables):
        yield from _comment(_about(parent, at[-1], node))
        if not _inherits(parent, node):
            for key, field in node.model.model_fields.items():
                need = " (required)" if schema.is_required(field) else ""
                about = description(node.model, key)
                yield from _comment(f"{key}{need}: {about}", hang="    ")
        for name, example in node.field.examples[0].items() if node.field.examples else ():
            yield from ("", f"#[{dotted(*at, name)}]")
            yield from (f"#{key} = {_toml(item)}" for key, item in example.items())
    else:
        yield from _comment(description(parent.model, at[-1]))
        value = _shown(node)
        if isinstance(value, Mapping):
            yield f"[{dotted(*at)}]"
            yield from (f"#{dotted(name)} = {_toml(item)}" for name, item in value.items())
        else:
            yield f"#{at[-1]} = {_toml(value)}"


def _late(node: schema.Node) -> bool:
    return not isinstance(node, FieldInfo) or isinstance(_shown(node), Mapping)


def _about(parent: Group, key: str, node: Tables) -> str:
    return f"{node.model.__doc__} {description(parent.model, key)}"


def _inherits(parent: Group, node: Tables) -> bool:
    """Whether the tables hold what their parent explains."""
    return issubclass(parent.model, node.model)


# --- Markdown ----------------------------------------------------------------------------------


def _markdown_part(parent: Group, at: Location, node: schema.Node) -> Iterator[str]:
    heading = "#" * (len(at) + 1)
    if isinstance(node, Group):
        yield from (f"{heading} `{dotted(*at)}`", "", _flat(node.model.__doc__ or ""), "")
        yield from _rows(node, f"{dotted(*at)}.")
        for key, inner in schema.children(node).items():
            if not isinstance(inner, FieldInfo):
                yield from _markdown_part(node, (*at, key), inner)
    elif isinstance(node, Tables):
        name = f"{dotted(*at)}.<name>"
        yield from (f"{heading} `{name}`", "", _flat(_about(parent, at[-1], node)), "")
        if _inherits(parent, node):
            keys = ", ".join(f"`{key}`" for key in node.model.model_fields)
            yield from (f"Its settings, explained above: {keys}.", "")
        else:
            yield from _rows(Group(node.model), f"{name}.")
        yield "```toml"
        example = "\n".join(_toml_part(parent, at, node)).split("\n\n")[1:]
        yield "\n\n".join(example).replace("\n#", "\n").removeprefix("#")
        yield from ("```", "")


def _rows(group: Group, prefix: str) -> Iterator[str]:
    yield from ("| setting | kind | default | meaning |", "|---|---|---|---|")
    for key, field in schema.children(group).items():
        if isinstance(field, FieldInfo):
            cells = (
                f"`{prefix}{key}`",
                _kind(key, field),
                "required" if schema.is_required(field) else _default(field),
                _flat(description(group.model, key)).replace("|", "\\|"),
            )
            yield f"| {' | '.join(cells)} |"
    yield ""


# --- both --------------------------------------------------------------------------------------


def _flat(text: str) -> str:
    return " ".join(text.split())


def _comment(text: str, hang: str = "") -> Iterator[str]:
    lines = textwrap.wrap(
        _flat(text),
        width=94,
        break_long_words=False,
        break_on_hyphens=False,
        subsequent_indent=hang,
    )
    yield from (f"# {line}" for line in lines)


def _shown(field: FieldInfo) -> Any:
    """The default, or an example where the default cannot be written down."""
    value = field.examples[0] if field.examples else field.get_default(call_default_factory=True)
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _toml(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, Mapping):
        items = ", ".join(f"{dotted(key)} = {_toml(item)}" for key, item in value.items())
        return f"{{ {items} }}" if items else "{}"
    if isinstance(value, str) and '"' in value and "'" not in value:
        return f"'{value}'"
    # Numbers, booleans and text are written alike in JSON and TOML.
    return json.dumps(value, ensure_ascii=False)


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None or schema.marked(field, "derived"):
        return "see right"
    if value in ("", (), {}) or isinstance(value, SecretStr):
        return "empty"
    return f"`{_toml(value)}`"


def _kind(key: str, field: FieldInfo) -> str:
    kind: Any = field.annotation
    if schema.is_optional(field):
        kind = next(each for each in get_args(kind) if each is not NoneType)
    kind = get_args(kind)[0] if hasattr(kind, "__metadata__") else kind
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" if choice else "empty" for choice in get_args(kind))
    if get_origin(kind) in {tuple, dict}:
        return "list" if get_origin(kind) is tuple else "table"
    if key.endswith("_seconds"):
        return "seconds, whole" if kind is int else "seconds"
    names: dict[Any, str] = {
        int: "whole number",
        float: "number",
        bool: "true or false",
        SecretStr: "secret",
    }
    return names.get(kind, "text")


if __name__ == "__main__":
    CONFIG_FILE.write_text(example_toml(), "utf-8")
    REFERENCE_FILE.write_text(markdown(), "utf-8")
