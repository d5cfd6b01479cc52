"""The Grafana dashboard shows what replyd says, and all of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.telemetry.queries import all_samples, selectors, unknown
from tests.telemetry.test_alerts import promtool

FILE = Path(__file__).parents[2] / "config/grafana-dashboard.json"
BOARD: dict[str, Any] = json.loads(FILE.read_text())
SHOWN: list[dict[str, Any]] = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS: list[str] = [
    *(target["expr"] for panel in SHOWN for target in panel["targets"]),
    *(each["expr"] for each in BOARD["annotations"]["list"]),
]


def plain(expression: str) -> str:
    """Without Grafana's variables."""
    for name, value in {"$__rate_interval": "5m", "$__range": "6h"}.items():
        expression = expression.replace(name, value)
    return expression


@pytest.mark.parametrize("panel", SHOWN, ids=lambda panel: str(panel["title"]))
def test_a_panel_names_only_what_replyd_says(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        assert selectors(target["expr"])
        assert unknown(target["expr"], all_samples()) == []
        assert target["datasource"]["uid"] == "${datasource}"


def test_every_metric_is_shown() -> None:
    shown = {selector.name for each in EXPRESSIONS for selector in selectors(each)}
    said = {
        name
        for name in all_samples()
        if not name.endswith(("_created", "_sum", "_count"))  # how counters and histograms are told
    }
    assert said <= shown


def test_every_expression_is_for_the_chosen_instances() -> None:
    for expression in EXPRESSIONS:
        for selector in selectors(expression):
            assert {label for label, _, _ in selector.matchers} >= {"job", "instance"}


def test_promtool_takes_every_expression(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{i}", "expr": plain(each)} for i, each in enumerate(EXPRESSIONS)]
    file = tmp_path / "rules.yaml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", file)


def test_panels_do_not_overlap() -> None:
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in BOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(ids) == len(set(ids))
