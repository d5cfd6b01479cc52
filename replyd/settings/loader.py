"""Reading settings: defaults < TOML file < environment < flags, every problem at once.

No problem repeats a value: it could be a secret, or one that was put under the wrong name.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from replyd.errors import ConfigError
from replyd.settings.agreement import disagreements
from replyd.settings.model import Settings
from replyd.settings.references import holds_secret, resolved
from replyd.settings.wording import sentence

DEFAULT_PATH = Path("config/replyd.toml")

_ENVIRONMENT = re.compile(r"REPLYD_(.+?)__(.+)")
_ACCOUNT_SID = re.compile(r"AC[0-9a-f]{32}")
# Variables with a meaning of their own; an earlier one wins, and REPLYD_… wins over all.
_STANDARD = {
    "ai.api_key": ("OPENAI_API_KEY",),
    "ai.base_url": ("OPENAI_BASE_URL",),
    "aws.region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
}


def fields() -> Iterator[tuple[str, str, FieldInfo]]:
    """Every setting: section, key, field."""
    for section, group in groups().items():
        for key, field in group.model_fields.items():
            yield section, key, field


def groups() -> dict[str, type[BaseModel]]:
    return {
        name: field.annotation
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }


def is_required(field: FieldInfo) -> bool:
    """Whether `replyd serve` cannot do without it."""
    return isinstance(field.json_schema_extra, dict) and bool(
        field.json_schema_extra.get("required")
    )


def load(
    config_path: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, str] | None = None,
    *,
    require_serving: bool = True,
) -> Settings:
    """The settings, from a file, the environment and flags (`overrides`: "section.key" to text).

    Without `config_path`, `config/replyd.toml` is read where there is one. `require_serving`:
    whether what `replyd serve` cannot do without must be there, also where references to secrets
    lead. Raises ConfigError with one line for each problem.
    """
    reading = _Reading(config_path or DEFAULT_PATH)
    reading.take_file(must_exist=config_path is not None)
    reading.take_environment(environ)
    reading.take_overrides(overrides or {})
    reading.resolve(environ)
    return reading.settings(require_serving=require_serving)


class _Reading:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[str, Any] = {}  # by "section.key"
        self.sources: dict[str, str] = {}
        self.problems: list[str] = []
        self.failed: set[str] = set()
        self.unresolved: dict[str, str] = {}
        self.fields = {f"{section}.{key}": field for section, key, field in fields()}

    # --- sources -------------------------------------------------------------------------------

    def take_file(self, *, must_exist: bool) -> None:
        try:
            document = tomllib.loads(self.path.read_text("utf-8"))
        except FileNotFoundError:
            if must_exist:
                self.problems.append(f"{self.path} does not exist: check the --config option")
            return
        except OSError as error:
            self.problems.append(f"{self.path} cannot be read: {error.strerror}")
            return
        except UnicodeDecodeError:
            self.problems.append(f"{self.path} is not UTF-8 text: save it as UTF-8")
            return
        except tomllib.TOMLDecodeError as error:
            self.problems.append(f"{self.path} is not valid TOML: {error}")
            return
        known = groups()
        for section, content in document.items():
            if section not in known:
                self._unknown(section, str(self.path), list(known), "section")
            elif not isinstance(content, dict):
                self.problems.append(
                    f"{section} in {self.path} must be a section: write [{section}] and its "
                    "settings below"
                )
            else:
                for key, value in content.items():
                    self._take(f"{section}.{key}", value, str(self.path))

    def take_environment(self, environ: Mapping[str, str]) -> None:
        for key, names in _STANDARD.items():
            for name in reversed(names):
                if environ.get(name):
                    self._take(key, environ[name], f"environment variable {name}")
        self._take_account(environ)
        for name in sorted(environ):
            if match := _ENVIRONMENT.fullmatch(name):
                key = f"{match[1]}.{match[2]}".lower()
                self._take_text(key, environ[name], f"environment variable {name}")

    def take_overrides(self, overrides: Mapping[str, str]) -> None:
        for key, text in overrides.items():
            self._take_text(key, text, "the command line")

    def resolve(self, environ: Mapping[str, str]) -> None:
        """Put secrets in the place of references to them; one that leads nowhere is a missing
        setting."""
        for key in [key for key in self.values if holds_secret(self.fields[key])]:
            try:
                self.values[key] = resolved(self.values[key], environ)
            except ValueError as error:
                self.unresolved[key] = str(error)
                del self.values[key]

    def _take_account(self, environ: Mapping[str, str]) -> None:
        """TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN add an account, or put its token first."""
        if "REPLYD_TWILIO__ACCOUNTS" in environ:
            return
        sid, token = environ.get("TWILIO_ACCOUNT_SID", ""), environ.get("TWILIO_AUTH_TOKEN", "")
        sid, token = sid.strip(), token.strip()
        accounts = self.values.get("twilio.accounts", {})
        if not isinstance(accounts, dict) or not (sid or token):
            return
        if not (sid and token):
            have, lack = (
                ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN")
                if sid
                else ("TWILIO_AUTH_TOKEN", "TWILIO_ACCOUNT_SID")
            )
            if not accounts:
                self._wrong("twilio.accounts", f"{have} is set and {lack} is not: set both")
            return
        if _ACCOUNT_SID.fullmatch(sid) is None:
            self._wrong(
                "twilio.accounts",
                "TWILIO_ACCOUNT_SID must be an account's SID: AC and 32 of 0-9 a-f",
            )
            return
        others = accounts.get(sid, [])
        others = [others] if isinstance(others, str) else others
        if isinstance(others, list):
            tokens = [token, *(other for other in others if other != token)][:2]
            source = "environment variable TWILIO_AUTH_TOKEN"
            if accounts:
                source = f"{self.sources['twilio.accounts']} and {source}"
            self._take("twilio.accounts", {**accounts, sid: tokens}, source)

    def _take_text(self, key: str, text: str, source: str) -> None:
        if key not in self.fields:
            self._take(key, text, source)
            return
        try:
            self._take(key, _decoded(self.fields[key], text), source)
        except ValueError as error:
            self.sources[key] = source
            self._wrong(key, str(error))

    def _take(self, key: str, value: Any, source: str) -> None:
        if key not in self.fields:
            self._unknown(key, source, list(self.fields), "setting")
            return
        self.values[key] = value
        self.sources[key] = source

    # --- problems ------------------------------------------------------------------------------

    def _unknown(self, key: str, source: str, known: list[str], kind: str) -> None:
        near = difflib.get_close_matches(key, known, n=1)
        advice = f"did you mean {near[0]}?" if near else "docs/configuration.md has the list"
        self.problems.append(f"{key} in {source} is an unknown {kind}: {advice}")

    def _wrong(self, key: str, what: str) -> None:
        self.failed.add(key)
        source = f" in {self.sources[key]}" if key in self.sources else ""
        problem = f"{key}{source} is wrong: {what}"
        if problem not in self.problems:
            self.problems.append(problem)

    def _missing(self, settings: Settings) -> None:
        for section, key, field in fields():
            name = f"{section}.{key}"
            value = getattr(getattr(settings, section), key)
            if hasattr(value, "get_secret_value"):
                value = value.get_secret_value()
            if not is_required(field) or value or name in self.failed:
                continue
            if name == "ai.api_key" and self._needs_no_key(settings):
                continue
            if name in self.unresolved:
                self._wrong(name, self.unresolved[name])
                continue
            self.problems.append(f"{name} is missing: set it {self._where(section, key)}")

    def _needs_no_key(self, settings: Settings) -> bool:
        """A server of one's own often takes none, and webhooks ask no model."""
        own_server = bool(settings.ai.base_url) or "ai.base_url" in self.failed
        return settings.server.role == "webhook" or (
            own_server and "ai.api_key" not in self.unresolved
        )

    def _where(self, section: str, key: str) -> str:
        variable = f"REPLYD_{section}__{key}".upper()
        if (section, key) == ("twilio", "accounts"):
            return (
                f"in {self.path} under [twilio.accounts] or as TWILIO_ACCOUNT_SID and "
                "TWILIO_AUTH_TOKEN"
            )
        if (section, key) == ("ai", "api_key"):
            variable = "OPENAI_API_KEY"
        return f"in {self.path} under [{section}] or as {variable}"

    # --- the result ----------------------------------------------------------------------------

    def settings(self, *, require_serving: bool) -> Settings:
        # A group with a wrong setting is built without it, so that what else is wrong shows too.
        built = {name: self._group(name, group) for name, group in groups().items()}
        draft = Settings.model_construct(None, **built)
        if require_serving:
            self._missing(draft)
        for disagreement in disagreements(draft):
            if not self.failed.intersection(disagreement.keys):
                origin = ", ".join(
                    f"{key} {'from ' + self.sources[key] if key in self.sources else 'by default'}"
                    for key in disagreement.keys
                )
                self.problems.append(f"{disagreement.sentence} ({origin})")
        if self.problems:
            raise ConfigError(self.problems)
        return Settings.model_validate(built)

    def _group(self, section: str, group: type[BaseModel]) -> BaseModel:
        content = {
            key: self.values[name]
            for key in group.model_fields
            if (name := f"{section}.{key}") in self.values and name not in self.failed
        }
        try:
            return group.model_validate(content)
        except ValidationError as error:
            for detail in error.errors(include_url=False, include_input=False):
                key = str(detail["loc"][0])
                self._wrong(f"{section}.{key}", sentence(detail))
                content.pop(key, None)
            return group.model_validate(content)


def _decoded(field: FieldInfo, text: str) -> Any:
    """The value that `text` stands for. Raises ValueError with a sentence."""
    kind = field.annotation
    optional = get_origin(kind) in {Union, UnionType} and type(None) in get_args(kind)
    if optional and not text.strip():
        return None
    origin = get_origin(kind)
    if origin is tuple and not text.lstrip().startswith("["):
        return [word for word in text.split(",") if word.strip()]
    if origin in {tuple, dict}:
        try:
            return json.loads(text)
        except ValueError:
            raise ValueError("it must be JSON") from None
    return text
