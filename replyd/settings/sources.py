"""What file, environment and flags say, later ones winning, and where each value came from."""

import difflib
import json
import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, get_origin

from pydantic.fields import FieldInfo

from replyd.errors import DependencyError
from replyd.settings import references, schema
from replyd.settings.names import Path as Location
from replyd.settings.names import dotted

_ENVIRONMENT = re.compile(r"REPLYD_(.+?)__(.+)")
_ACCOUNT_SID = re.compile(r"AC[0-9a-f]{32}")
_ACCOUNTS = ("twilio", "accounts")
# Variables with a meaning of their own; an earlier one wins, and REPLYD_… wins over all.
_STANDARD: dict[Location, tuple[str, ...]] = {
    ("ai", "api_key"): ("OPENAI_API_KEY",),
    ("ai", "base_url"): ("OPENAI_BASE_URL",),
    ("aws", "region"): ("AWS_REGION", "AWS_DEFAULT_REGION"),
}


class Sources:
    """`values`: as nested as the settings are. `failed`: names of settings that were complained
    of; `gone`: of tables that were taken out for it. `unresolved`: why a reference to a secret
    leads nowhere, by where it is; `down`: why one cannot be followed for now. `lacking`: complaints
    of missing credentials, where they may be missing; `referring`: names of settings with
    references."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[str, Any] = {}
        self.problems: list[str] = []
        self.failed: set[str] = set()
        self.gone: set[str] = set()
        self.unresolved: dict[Location, str] = {}
        self.down: DependencyError | None = None
        self.lacking: list[str] = []
        self.referring: list[str] = []
        self._origins: dict[str, str] = {}

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
        self._put((), document, str(self.path))

    def take_environment(self, environ: Mapping[str, str]) -> None:
        for location, names in _STANDARD.items():
            for name in reversed(names):
                if environ.get(name):
                    self._put(location, environ[name], f"environment variable {name}")
        self._take_account(environ)
        whole = [
            f"REPLYD_{section.upper()}"
            for section, node in schema.children(schema.ROOT).items()
            if isinstance(node, schema.Tables)
        ]
        for name in sorted(environ):
            if _ENVIRONMENT.fullmatch(name) or name in whole:
                location = tuple(name.removeprefix("REPLYD_").lower().split("__"))
                self._put_text(location, environ[name], f"environment variable {name}")

    def take_overrides(self, overrides: Mapping[str, str]) -> None:
        for key, text in overrides.items():
            self._put_text(tuple(key.split(".")), text, "the command line")

    def names_of_secrets(self, without: Collection[str] = ()) -> set[str]:
        """Those in Secrets Manager that the settings refer to, `without` these sections."""
        return {
            name
            for location, field, value in schema.given(self.values)
            if references.holds_secret(field) and location[0] not in without
            for name in references.names(value)
        }

    def resolve(self, secret: Callable[[Any], Any]) -> None:
        """Put secrets in the place of references to them, by `references.resolved` or
        `form_checked`; one that leads nowhere is taken out."""
        for location, field, value in list(schema.given(self.values)):
            if references.holds_secret(field):
                try:
                    known = secret(value)
                    if known != value:
                        self.referring.append(dotted(*location))
                    self._set(location, known)
                except ValueError as error:
                    self.unresolved[location] = str(error)
                    self.drop(location)
                except DependencyError as error:
                    # Nothing is known to be wrong with the setting.
                    self.down = error
                    self.failed.add(dotted(*location))
                    self.drop(location)

    # --- what is there -------------------------------------------------------------------------

    def origin(self, name: str) -> str:
        """Where the setting, or what it is in, was set; empty: nowhere."""
        return self._origins.get(name, "")

    def has(self, location: Location) -> bool:
        table: Any = self.values
        for key in location:
            if not isinstance(table, dict) or key not in table:
                return False
            table = table[key]
        return True

    def drop(self, location: Location) -> None:
        if not isinstance(schema.at(location), FieldInfo):
            self.gone.add(dotted(*location))
        table: Any = self.values
        for key in location[:-1]:
            table = table.get(key, {})
        table.pop(location[-1], None)

    def wrong(self, location: Location, what: str) -> None:
        """Complain of a value; it is used no further."""
        name = dotted(*location)
        source = f" in {self._origins[name]}" if name in self._origins else ""
        problem = f"{name}{source} is wrong: {what}"
        if problem not in self.problems:
            self.problems.append(problem)
        self.failed.add(name)
        self.drop(location)

    def missing(self, location: Location, variable: str = "", *, may: bool = False) -> None:
        """Complain that a setting is missing. `variable`: where else it can be set; `may`: it is
        one that may be missing here."""
        also = f" or as {variable}" if variable else ""
        name, node = dotted(*location), schema.at(location)
        in_table = isinstance(node, FieldInfo) and get_origin(node.annotation) is dict
        table = name if in_table else dotted(*location[:-1])
        problems = self.lacking if may else self.problems
        problems.append(f"{name} is missing: set it in {self.path} under [{table}]{also}")
        self.failed.add(name)

    # --- taking --------------------------------------------------------------------------------

    def _put_text(self, location: Location, text: str, source: str) -> None:
        node = schema.at(location)
        if node is None:
            self._unknown(location, source)
            return
        try:
            value = _decoded(node, text)
        except ValueError as error:
            self._origins[dotted(*location)] = source
            self.wrong(location, str(error))
            return
        self._put(location, value, source)

    def _put(self, location: Location, value: Any, source: str) -> None:
        """Takes a value, or a table with what is in it, in the place of what was there."""
        node = schema.at(location)
        if node is None:
            self._unknown(location, source)
        elif isinstance(node, FieldInfo):
            self._set(location, value, source)
        elif not isinstance(value, dict):
            self._no_table(location, node, source)
        else:
            if location:
                self._set(location, {}, source)
            for key, item in value.items():
                self._put((*location, key), item, source)

    def _set(self, location: Location, value: Any, source: str = "") -> None:
        table = self.values
        for key in location[:-1]:
            table = table.setdefault(key, {})
        table[location[-1]] = value
        if source:
            name = dotted(*location)
            for other in [o for o in self._origins if o.startswith(f"{name}.")]:
                del self._origins[other]
            self._origins[name] = source

    def _take_account(self, environ: Mapping[str, str]) -> None:
        """TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN add an account, or put its token first."""
        if "REPLYD_TWILIO__ACCOUNTS" in environ:
            return
        sid, token = environ.get("TWILIO_ACCOUNT_SID", ""), environ.get("TWILIO_AUTH_TOKEN", "")
        sid, token = sid.strip(), token.strip()
        accounts = self.values.get("twilio", {}).get("accounts", {})
        if not isinstance(accounts, dict) or not (sid or token):
            return
        if not (sid and token):
            have, lack = (
                ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN")
                if sid
                else ("TWILIO_AUTH_TOKEN", "TWILIO_ACCOUNT_SID")
            )
            if not accounts:
                self.wrong(_ACCOUNTS, f"{have} is set and {lack} is not: set both")
            return
        if _ACCOUNT_SID.fullmatch(sid) is None:
            self.wrong(
                _ACCOUNTS, "TWILIO_ACCOUNT_SID must be an account's SID: AC and 32 of 0-9 a-f"
            )
            return
        others = accounts.get(sid, [])
        others = [others] if isinstance(others, str) else others
        if isinstance(others, list):
            tokens = [token, *(other for other in others if other != token)][:2]
            source = "environment variable TWILIO_AUTH_TOKEN"
            if accounts:
                source = f"{self.origin(dotted(*_ACCOUNTS))} and {source}"
            self._put(_ACCOUNTS, {**accounts, sid: tokens}, source)

    # --- problems ------------------------------------------------------------------------------

    def _unknown(self, location: Location, source: str) -> None:
        kind = "setting" if len(location) > 1 else "section"
        near = difflib.get_close_matches(dotted(*location), _known_near(location), n=1)
        advice = f"did you mean {near[0]}?" if near else "docs/configuration.md has the list"
        self.problems.append(f"{dotted(*location)} in {source} is an unknown {kind}: {advice}")

    def _no_table(self, location: Location, node: schema.Node, source: str) -> None:
        name = dotted(*location)
        if len(location) == 1:
            what = f"must be a section: write [{name}] and its settings below"
        else:
            inner = f"{name}.<name>" if isinstance(node, schema.Tables) else name
            what = f"must be a table: write [{inner}] and its settings below"
        self.problems.append(f"{name} in {source} {what}")
        self.failed.add(name)
        self.drop(location)


def _known_near(location: Location) -> list[str]:
    """What the setting may have been meant to be: one beside it, or any."""
    if len(location) == 1:
        return list(schema.children(schema.ROOT))
    parent = schema.at(location[:-1])
    beside = schema.children(parent) if isinstance(parent, schema.Group) else {}
    every = [dotted(*known) for known, _ in schema.settings()]
    return [*(dotted(*location[:-1], key) for key in beside), *every]


def _decoded(node: schema.Node, text: str) -> Any:
    """The value that `text` stands for. Raises ValueError with a sentence."""
    if isinstance(node, FieldInfo):
        if schema.is_optional(node) and not text.strip():
            return None
        origin = get_origin(node.annotation)
        if origin is tuple and not text.lstrip().startswith("["):
            return [word for word in text.split(",") if word.strip()]
        if origin not in {tuple, dict}:
            return text
    try:
        value = json.loads(text)
    except ValueError:
        raise ValueError("it must be JSON") from None
    if not isinstance(node, FieldInfo) and not isinstance(value, dict):
        raise ValueError('it must be a table, {"name": value} in JSON')
    return value
