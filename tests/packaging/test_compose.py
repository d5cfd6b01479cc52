"""config/compose.yaml starts what the Dockerfile makes, with settings that exist."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from replyd.settings import load
from tests.packaging.dockerfile import parse

REPOSITORY = Path(__file__).parents[2]
FILE = REPOSITORY / "config/compose.yaml"
# https://github.com/compose-spec/compose-spec/blob/main/05-services.md, of it what we use.
KEYS = {
    "build": dict,
    "cap_drop": list,
    "env_file": list,
    "environment": dict,
    "image": str,
    "network_mode": str,
    "ports": list,
    "profiles": list,
    "read_only": bool,
    "restart": str,
    "security_opt": list,
    "stop_grace_period": str,
    "tmpfs": list,
}


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    document = yaml.safe_load(FILE.read_text())
    assert {key for key in document if not key.startswith("x-")} == {"name", "services"}
    services: dict[str, dict[str, Any]] = document["services"]
    return services


def test_keys_are_those_of_the_specification(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        for key, value in service.items():
            assert isinstance(value, KEYS[key]), f"{name}.{key}"


def test_a_service_is_built_from_a_stage_and_can_change_nothing(
    services: dict[str, dict[str, Any]],
) -> None:
    stages = {stage.name for stage in parse((REPOSITORY / "Dockerfile").read_text())}
    for service in services.values():
        assert (FILE.parent / service["build"]["context"]).resolve() == REPOSITORY
        assert service["build"]["target"] in stages
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]


def test_without_a_name_only_the_demo_starts(services: dict[str, dict[str, Any]]) -> None:
    assert [name for name, service in services.items() if "profiles" not in service] == ["demo"]


def test_the_service_has_time_to_drain_and_shows_its_metrics_to_this_machine_only(
    services: dict[str, dict[str, Any]],
) -> None:
    service = services["replyd"]
    settings = load(None, service["environment"], {}, require_serving=False)
    grace = float(service["stop_grace_period"].removesuffix("s"))
    assert grace > settings.server.drain_seconds
    assert service["ports"] == [
        f"{settings.server.port}:{settings.server.port}",
        f"127.0.0.1:{settings.ops.port}:{settings.ops.port}",
    ]
    assert settings.ops.host == "0.0.0.0"
