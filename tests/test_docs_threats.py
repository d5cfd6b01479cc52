"""docs/threat-model.md names tests that are there, and settings that exist."""

import re
from pathlib import Path

from replyd.settings import Settings

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "threat-model.md").read_text()


def test_every_proof_is_there() -> None:
    named = set(re.findall(r"`([a-z]+/test_[a-z_]+\.py)`", TEXT))
    assert len(named) > 15
    assert {name for name in named if not (ROOT / "tests" / name).is_file()} == set()


def test_every_threat_has_a_proof() -> None:
    table = TEXT.partition("| threat |")[2].partition("\n\n")[0].splitlines()[2:]
    assert len(table) > 10
    for row in table:
        _, threat, stops, proof, _, _ = row.split("|")
        assert stops.strip(), threat
        assert "/test_" in proof, threat


def test_every_setting_exists() -> None:
    groups = Settings.model_fields
    for group, name in re.findall(r"`([a-z]+)\.([a-z_]+)`", TEXT):
        if group in groups:
            annotation = groups[group].annotation
            assert annotation is not None
            assert name in annotation.model_fields, f"{group}.{name}"
