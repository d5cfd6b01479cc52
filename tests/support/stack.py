"""`config/cloudformation.yaml`, and stacks made from it on moto."""

import tomllib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cfnlint.decode import decode

from tests.contract.conftest import client

PATH = Path(__file__).parents[2] / "config" / "cloudformation.yaml"


@cache
def template() -> dict[str, Any]:
    """As written: functions are not resolved."""
    parsed, problems = decode(str(PATH))
    assert not problems, problems
    assert isinstance(parsed, dict)
    return parsed


def resources(kind: str) -> dict[str, Any]:
    """By logical name, such as `resources("AWS::SQS::Queue")`."""
    found = template()["Resources"].items()
    return {name: resource for name, resource in found if resource["Type"] == kind}


@dataclass(frozen=True)
class Stack:
    outputs: Mapping[str, str]

    @property
    def settings(self) -> dict[str, dict[str, str]]:
        """What the stack says to put into the configuration file."""
        return tomllib.loads(self.outputs["Settings"])


async def deploy(endpoint_url: str, prefix: str, **parameters: str) -> Stack:
    given = {"Prefix": prefix, **parameters}
    with warnings.catch_warnings():
        # Moto makes no queue policies and no alarms.
        warnings.filterwarnings("ignore", message="Tried to parse AWS::")
        async with client("cloudformation", endpoint_url) as cloudformation:
            await cloudformation.create_stack(
                StackName=prefix,
                TemplateBody=PATH.read_text(),
                Parameters=[
                    {"ParameterKey": key, "ParameterValue": value} for key, value in given.items()
                ],
                Capabilities=["CAPABILITY_IAM"],
            )
            (stack,) = (await cloudformation.describe_stacks(StackName=prefix))["Stacks"]
    made = Stack({output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]})
    if "ExistingTable" not in given:
        await _time_to_live(endpoint_url, made.settings["conversations"]["table"])
    return made


async def _time_to_live(endpoint_url: str, table: str) -> None:
    """Moto's CloudFormation leaves it out."""
    wanted = resources("AWS::DynamoDB::Table")["Table"]["Properties"]["TimeToLiveSpecification"]
    async with client("dynamodb", endpoint_url) as dynamodb:
        await dynamodb.update_time_to_live(TableName=table, TimeToLiveSpecification=dict(wanted))
