"""`config/replyd.toml` and `docs/configuration.md` say what the models say."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from replyd.settings import load, schema
from replyd.settings.descriptions import description
from replyd.settings.names import Path as Location
from replyd.settings.names import dotted
from replyd.settings.reference import CONFIG_FILE, REFERENCE_FILE, example_toml, markdown

ROOT = Path(__file__).parent.parent
CONFIG = (ROOT / CONFIG_FILE).read_text("utf-8")

# A setting that is commented out; prose has a space after the #.
_SETTING = re.compile(r"^#(?=[A-Za-z_0-9]+ = )", re.MULTILINE)
# An example of a table that is commented out, as a whole.
_TABLE = re.compile(r"^#\[[^]]+\]\n(?:#.+\n)+", re.MULTILINE)
_UPDATE = "run `python -m replyd.settings.reference`"


def _uncommented(table: re.Match[str]) -> str:
    return re.sub("^#", "", table[0], flags=re.MULTILINE)


_NAMES = re.findall(r"^#\[(.+)\]$", CONFIG, re.MULTILINE)
# With its examples of tables, which some settings name, and nothing else set.
TABLES_SET = _TABLE.sub(_uncommented, CONFIG)
ALL_SET = _SETTING.sub("", TABLES_SET)
# What the examples refer to.
ENVIRON = {"SHOP_AUTHORIZATION": "Bearer x"}


def test_the_configuration_file_is_current() -> None:
    assert example_toml() == CONFIG, _UPDATE


def test_the_reference_is_current() -> None:
    assert markdown() == (ROOT / REFERENCE_FILE).read_text("utf-8"), _UPDATE


def test_every_setting_is_described() -> None:
    silent = [dotted(*at) for at, _ in _fields() if not _described(at)]
    assert silent == []


def test_as_shipped_it_sets_nothing() -> None:
    shipped = load(ROOT / CONFIG_FILE, {}, require_serving=False)
    assert not shipped.model_dump(exclude_defaults=True)


def test_its_keys_are_the_settings() -> None:
    document = tomllib.loads(ALL_SET)
    set_in_file = {at for at, _, _ in schema.given(document)}
    fixed = {at for at, node in schema.settings() if isinstance(node, FieldInfo)}
    named = {at for at in set_in_file if _is_named(at)}
    assert set_in_file - named == fixed
    assert {at[:-2] for at in named} == {("ai", "profiles"), ("tools",), ("prices",)}


def test_all_of_it_together_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "replyd.toml"
    path.write_text(ALL_SET, "utf-8")
    settings = load(path, ENVIRON)
    assert settings.server.public_url == "https://hooks.example.com"
    assert settings.visibility_seconds == 30
    assert settings.ai.assistants.map == {"asst_abc123": "sales"}
    assert settings.tools["find_order"].headers["Authorization"].get_secret_value() == "Bearer x"
    assert settings.tools["cancel_order"].effects


def test_examples_of_prices_are_called_examples() -> None:
    for text in (CONFIG, markdown()):
        assert "example and no official prices" in " ".join(text.replace("\n# ", " ").split())


@pytest.mark.parametrize("index", range(len(_SETTING.findall(TABLES_SET))))
def test_each_key_alone_is_valid(index: int, tmp_path: Path) -> None:
    at = [match.start() for match in _SETTING.finditer(TABLES_SET)][index]
    path = tmp_path / "replyd.toml"
    path.write_text(TABLES_SET[:at] + TABLES_SET[at + 1 :], "utf-8")
    load(path, {}, require_serving=False)


@pytest.mark.parametrize("name", _NAMES)
def test_each_example_of_a_table_alone_is_valid(name: str, tmp_path: Path) -> None:
    path = tmp_path / "replyd.toml"
    path.write_text(
        _TABLE.sub(lambda t: _uncommented(t) if f"#[{name}]" in t[0] else t[0], CONFIG), "utf-8"
    )
    settings = load(path, {}, require_serving=False)
    assert settings.model_dump(exclude_defaults=True)


@pytest.mark.parametrize("block", re.findall(r"```toml\n(.*?)```", markdown(), re.DOTALL))
def test_examples_of_the_reference_are_valid(block: str, tmp_path: Path) -> None:
    path = tmp_path / "replyd.toml"
    path.write_text(block, "utf-8")
    assert load(path, {}, require_serving=False).model_dump(exclude_defaults=True)


def _is_named(at: Location) -> bool:
    return any(isinstance(schema.at(at[:length]), schema.Tables) for length in range(len(at)))


def _described(at: Location) -> str:
    holder = schema.at(at[:-1])
    assert isinstance(holder, schema.Group | schema.Tables)
    return description(holder.model, at[-1])


def _fields() -> Iterator[tuple[Location, FieldInfo]]:
    """Every setting, those of named tables too."""
    for at, node in schema.settings():
        if isinstance(node, FieldInfo):
            yield at, node
        else:
            yield from (((*at, key), f) for key, f in node.model.model_fields.items())
