"""`config/replyd.toml` and `docs/configuration.md` say what the models say."""

import re
import tomllib
from pathlib import Path

import pytest

from replyd.settings import load
from replyd.settings.loader import fields
from replyd.settings.reference import CONFIG_FILE, REFERENCE_FILE, example_toml, markdown

ROOT = Path(__file__).parent.parent
CONFIG = (ROOT / CONFIG_FILE).read_text("utf-8")

# A setting that is commented out; prose has a space after the #.
_SETTING = re.compile(r"^#(?=[A-Za-z_0-9]+ = )", re.MULTILINE)
_UPDATE = "run `python -m replyd.settings.reference`"


def test_the_configuration_file_is_current() -> None:
    assert example_toml() == CONFIG, _UPDATE


def test_the_reference_is_current() -> None:
    assert markdown() == (ROOT / REFERENCE_FILE).read_text("utf-8"), _UPDATE


def test_every_setting_is_described() -> None:
    assert [f"{section}.{key}" for section, key, field in fields() if not field.description] == []


def test_as_shipped_it_sets_nothing() -> None:
    shipped = load(ROOT / CONFIG_FILE, {}, require_serving=False)
    assert not shipped.model_dump(exclude_defaults=True)


def test_its_keys_are_the_settings() -> None:
    document = tomllib.loads(_SETTING.sub("", CONFIG))
    keys = {f"{section}.{key}" for section, content in document.items() for key in content}
    assert keys == {f"{section}.{key}" for section, key, _ in fields()}


def test_all_of_it_together_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "replyd.toml"
    path.write_text(_SETTING.sub("", CONFIG), "utf-8")
    settings = load(path, {})
    assert settings.server.public_url == "https://hooks.example.com"
    assert settings.visibility_seconds == 30


@pytest.mark.parametrize("index", range(len(_SETTING.findall(CONFIG))))
def test_each_key_alone_is_valid(index: int, tmp_path: Path) -> None:
    at = [match.start() for match in _SETTING.finditer(CONFIG)][index]
    path = tmp_path / "replyd.toml"
    path.write_text(CONFIG[:at] + CONFIG[at + 1 :], "utf-8")
    load(path, {}, require_serving=False)
