"""Reading settings: defaults < TOML file < environment < flags, every problem at once.

No problem repeats a value: it could be a secret, or one that was put under the wrong name.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from replyd.errors import ConfigError
from replyd.settings import references, schema
from replyd.settings.agreement import disagreements
from replyd.settings.ai import Ai, Profile
from replyd.settings.model import Settings
from replyd.settings.names import Path as Location
from replyd.settings.names import dotted, within
from replyd.settings.references import Found, LookUp
from replyd.settings.sources import Sources
from replyd.settings.wording import sentence

DEFAULT_PATH = Path("config/replyd.toml")

# What webhooks do not need: they ask no model.
_OF_WORKERS = {"ai", "voice", "moderation", "tools"}
_VARIABLES: dict[Location, str] = {
    ("ai", "api_key"): "OPENAI_API_KEY",
    ("twilio", "accounts"): "TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN",
}


def load(
    config_path: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, str] | None = None,
    *,
    require_serving: bool = True,
    look_up: LookUp | None = None,
) -> Settings:
    """The settings, from a file, the environment and flags (`overrides`: "section.key" to text).

    Without `config_path`, `config/replyd.toml` is read where there is one. `require_serving`:
    whether what `replyd serve` cannot do without must be there, also where references to secrets
    lead. `look_up`: asked once, for what then is needed of Secrets Manager; without it nothing
    there can be had. No reference is left in the settings.

    Raises ConfigError with one line for each problem, and, where nothing is wrong,
    the DependencyError for which a secret could not be looked up.
    """
    sources = _taken(config_path, environ, overrides)
    found = _looked_up(sources, look_up) if require_serving and look_up else {}
    sources.resolve(partial(references.resolved, environ=environ, found=found))
    return _settings(sources, require_serving=require_serving)


@dataclass(frozen=True, slots=True)
class Unserved:
    """Settings that were read where they are not served. `referring`: names of those that refer to
    secrets, with something else in their place; `lacking`: sentences about credentials that are
    not there."""

    settings: Settings
    referring: tuple[str, ...]
    lacking: tuple[str, ...]


def load_offline(
    config_path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, str] | None = None
) -> Unserved:
    """As `load` with what serving needs, but for secrets: references to them are not followed,
    only their form is checked, and those that are not set are no problem. Asks nobody.

    Raises ConfigError with one line for each problem."""
    pair = ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN")
    if not all(environ.get(name, "").strip() for name in pair):
        # One of them alone is a credential that is missing, too.
        environ = {name: text for name, text in environ.items() if name not in pair}
    sources = _taken(config_path, environ, overrides)
    sources.resolve(references.form_checked)
    settings = _settings(sources, require_serving=True, need_credentials=False)
    return Unserved(settings, tuple(sources.referring), tuple(sources.lacking))


def _taken(
    config_path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, str] | None
) -> Sources:
    sources = Sources(config_path or DEFAULT_PATH)
    sources.take_file(must_exist=config_path is not None)
    sources.take_environment(environ)
    sources.take_overrides(overrides or {})
    return sources


def _settings(
    sources: Sources, *, require_serving: bool, need_credentials: bool = True
) -> Settings:
    # A group with a wrong setting is built without it, so that what else is wrong shows too.
    built = {name: _section(sources, name, f) for name, f in Settings.model_fields.items()}
    draft = Settings.model_construct(None, **built)
    if require_serving:
        _require(sources, draft, need_credentials=need_credentials)
    for disagreement in disagreements(draft):
        decisive = [_decisive(sources, key) for key in disagreement.keys]
        if not any(_is_spoilt(sources, key) for key in decisive):
            origins = ", ".join(_origin(sources, key) for key in decisive)
            sources.problems.append(f"{disagreement.sentence} ({origins})")
    if sources.problems:
        raise ConfigError(sources.problems)
    if sources.down is not None:
        raise sources.down
    return Settings.model_validate(built)


def _looked_up(sources: Sources, look_up: LookUp) -> Found:
    """Which secrets are needed, and where they are, is said by settings that hold none."""
    role = _raw(sources, "server", "role")
    needed = sources.names_of_secrets(_OF_WORKERS if role == "webhook" else ())
    return look_up(needed, _raw(sources, "aws", "region").strip()) if needed else {}


def _raw(sources: Sources, section: str, key: str) -> str:
    """The text that was set, right or wrong."""
    value = sources.values.get(section, {}).get(key)
    return value if isinstance(value, str) else ""


def _decisive(sources: Sources, key: str) -> str:
    """The setting itself, or the one of `[ai]` that a profile has it from."""
    inherited = f"ai.{key.rpartition('.')[2]}"
    if not key.startswith("ai.profiles.") or _concerns(sources, key):
        return key
    return inherited if _concerns(sources, inherited) else key


def _is_spoilt(sources: Sources, key: str) -> bool:
    """Whether it is not what was meant: it, or a table with it or in it, was complained of."""
    return any(within(key, bad) for bad in sources.failed) or any(
        within(table, key) for table in sources.gone
    )


def _concerns(sources: Sources, key: str) -> bool:
    """Whether somebody set it, rightly or wrongly."""
    return bool(sources.origin(key)) or key in sources.failed


def _origin(sources: Sources, key: str) -> str:
    return f"{key} {'from ' + origin if (origin := sources.origin(key)) else 'by default'}"


# --- building ----------------------------------------------------------------------------------


def _section(sources: Sources, name: str, field: FieldInfo) -> Any:
    adapter = TypeAdapter[Any](cast("Any", field.annotation))
    while True:
        try:
            return adapter.validate_python(sources.values.get(name, {}))
        except ValidationError as error:
            own = [detail for detail in _details(error, name) if _is_own(sources, *detail)]
            if not own:
                raise
            for location, detail in own:
                if detail["type"] == "missing":
                    if dotted(*location) not in sources.failed:
                        sources.missing(location)
                    sources.drop(location[:-1])
                else:
                    sources.wrong(location, sentence(detail, location[-1]))


def _details(error: ValidationError, section: str) -> Iterator[tuple[Location, ErrorDetails]]:
    for detail in error.errors(include_url=False, include_input=False):
        yield schema.setting_at((section, *map(str, detail["loc"]))), detail


def _is_own(sources: Sources, location: Location, detail: ErrorDetails) -> bool:
    """What a profile inherits is complained of where it was set."""
    return detail["type"] == "missing" or sources.has(location)


# --- what serving needs ------------------------------------------------------------------------


def _require(sources: Sources, draft: Settings, *, need_credentials: bool) -> None:
    webhook = draft.server.role == "webhook"
    for location, why in sources.unresolved.items():
        if not (webhook and location[0] in _OF_WORKERS):
            sources.wrong(location, why)
    for location, field in schema.settings():
        if isinstance(field, schema.Tables) or not schema.is_required(field):
            continue
        if location == ("ai", "api_key"):
            if not webhook:
                _require_keys(sources, draft.ai, may_lack=not need_credentials)
        elif location == ("twilio", "accounts") and draft.twilio.account_sids:
            continue
        elif dotted(*location) not in sources.failed and not _get(draft, location):
            variable = f"REPLYD_{'__'.join(location)}".upper()
            may = location == ("twilio", "accounts") and not need_credentials
            sources.missing(location, _VARIABLES.get(location, variable), may=may)


def _get(settings: Settings, location: Location) -> Any:
    return reduce(getattr, location, cast("Any", settings))


def _require_keys(sources: Sources, ai: Ai, *, may_lack: bool) -> None:
    """A server of one's own often takes no key."""
    for name, profile in {"": ai, **ai.profiles}.items():
        at: Location = ("ai", "profiles", name) if name else ("ai",)
        inherits = bool(name) and _access(profile) == _access(ai)
        if any(_access(profile)) or inherits or _failed(sources, at):
            continue
        variable = "" if name else _VARIABLES["ai", "api_key"]
        sources.missing((*at, "api_key"), variable, may=may_lack)


def _access(profile: Profile) -> tuple[str, str]:
    return profile.api_key.get_secret_value(), profile.base_url


def _failed(sources: Sources, at: Location) -> bool:
    """Whether the key or the base URL, perhaps inherited, was complained of already."""
    for key in ("api_key", "base_url"):
        inherited = not sources.has((*at, key)) and f"ai.{key}" in sources.failed
        if inherited or dotted(*at, key) in sources.failed:
            return True
    return False
