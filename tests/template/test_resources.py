"""The template makes what `replyd init` makes, and what a stack can do beyond it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cfnlint.api import lint

from replyd.adapters import aws
from replyd.adapters.provisioning import open_provisioning
from replyd.provision import Names, init
from replyd.provision.create import TTL_ATTRIBUTE
from replyd.settings import Conversations
from tests.contract.conftest import client
from tests.support import stack as template
from tests.support.stack import Stack

DOCS = Path(__file__).parents[2] / "docs" / "aws.md"
# What no two queues or tables have in common, and what SQS counts.
OWN = re.compile("Arn$|Timestamp$|Id$|DateTime$|Name$|^ApproximateNumber|^ItemCount|SizeBytes$")


@pytest.fixture
def environ(moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": moto,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }.items():
        monkeypatch.setenv(name, value)


def test_cfn_lint_finds_nothing() -> None:
    assert lint(template.PATH.read_text()) == []


async def test_init_finds_nothing_to_make_or_to_say(
    stacks: dict[str, Stack], environ: None
) -> None:
    async with open_provisioning("us-east-1") as provisioning:
        report = await init(provisioning, Conversations(), Names.with_prefix("made"))
    assert [(o.name, o.state, o.notes) for o in report.outcomes] == [
        (name, "existed", ())
        for name in (
            "made-conversations",
            "made-replies",
            "made-replies-dlq",
            "made-handoff",
            "made-handoff-dlq",
        )
    ]
    # Moto's CloudFormation has AWS's host in the URLs, its SQS its own.
    assert _hostless(stacks["made"].outputs["Settings"]) == _hostless(report.toml)


def _hostless(toml: str) -> str:
    return re.sub("https?://[^/]+/", "https://sqs/", toml).rstrip("\n")


async def test_queues_are_as_init_makes_them(stacks: dict[str, Stack], environ: None) -> None:
    async with open_provisioning("us-east-1") as provisioning:
        await init(provisioning, Conversations(), Names.with_prefix("init"))
    async with aws.create_client("sqs", region="us-east-1") as sqs:
        for queue in ("replies", "replies-dlq", "handoff", "handoff-dlq"):
            ours, theirs = [await _attributes(sqs, f"{p}-{queue}") for p in ("made", "init")]
            assert ours == theirs


async def _attributes(sqs: Any, name: str) -> dict[str, Any]:
    url = (await sqs.get_queue_url(QueueName=name))["QueueUrl"]
    answer = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    found = _shared(answer["Attributes"])
    if "RedrivePolicy" in found:
        policy = json.loads(found["RedrivePolicy"])
        assert policy.pop("deadLetterTargetArn").endswith(f":{name}-dlq")
        found["RedrivePolicy"] = {k: int(v) for k, v in policy.items()}
    return found


async def test_the_table_is_as_init_makes_it(stacks: dict[str, Stack], environ: None) -> None:
    async with open_provisioning("us-east-1") as provisioning:
        await init(provisioning, Conversations(), Names.with_prefix("init"))
        assert await provisioning.ttl_attribute("made-conversations") == TTL_ATTRIBUTE
    async with aws.create_client("dynamodb", region="us-east-1") as dynamodb:
        ours, theirs = [
            (await dynamodb.describe_table(TableName=f"{p}-conversations"))["Table"]
            for p in ("made", "init")
        ]
    assert ours.pop("DeletionProtectionEnabled") is True
    assert theirs.pop("DeletionProtectionEnabled") is False
    assert _shared(ours) == _shared(theirs)


def _shared(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if not OWN.search(name)}


async def test_a_table_of_yours_is_left_alone(moto: str, stacks: dict[str, Stack]) -> None:
    assert stacks["named"].settings["conversations"] == {"table": "crm", "lookup_index": "by_phone"}
    assert stacks["foreign"].settings["conversations"]["table"].endswith(":210987654321:table/crm")
    async with client("dynamodb", moto) as dynamodb:
        tables = (await dynamodb.list_tables())["TableNames"]
    assert not {"named-conversations", "foreign-conversations", "crm"} & set(tables)


# --- what moto does not make: from the template itself ------------------------------------------


def test_what_holds_messages_or_conversations_outlives_the_stack() -> None:
    (table,) = template.resources("AWS::DynamoDB::Table").values()
    assert table["DeletionPolicy"] == "Retain"
    assert table["Properties"]["PointInTimeRecoverySpecification"] == {
        "PointInTimeRecoveryEnabled": True
    }
    queues = template.resources("AWS::SQS::Queue").values()
    assert {queue["DeletionPolicy"] for queue in queues} == {"RetainExceptOnCreate"}
    assert {kept["UpdateReplacePolicy"] for kept in (table, *queues)} == {"Retain"}


@pytest.mark.parametrize("kind", ["replies", "handoff"])
def test_dead_letters_come_from_their_queue_only(kind: str) -> None:
    dead = template.resources("AWS::SQS::Queue")[f"{kind.capitalize()}DeadLetterQueue"]
    allowed = dead["Properties"]["RedriveAllowPolicy"]
    assert allowed["redrivePermission"] == "byQueue"
    # Written out: each of the two queues names the other.
    (source,) = allowed["sourceQueueArns"]
    prefix = "arn:${AWS::Partition}:sqs:${AWS::Region}:${AWS::AccountId}:${Prefix}"
    assert source == {"Fn::Sub": f"{prefix}-{kind}"}


def test_every_queue_refuses_what_is_not_encrypted() -> None:
    policies = template.resources("AWS::SQS::QueuePolicy").values()
    protected = [policy["Properties"]["Queues"] for policy in policies]
    queues = template.resources("AWS::SQS::Queue")
    assert sorted(protected, key=str) == sorted(([{"Ref": name}] for name in queues), key=str)
    for policy in policies:
        (statement,) = policy["Properties"]["PolicyDocument"]["Statement"]
        (queue,) = policy["Properties"]["Queues"]
        assert statement["Effect"] == "Deny"
        assert statement["Resource"] == {"Fn::GetAtt": [queue["Ref"], "Arn"]}
        assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_alarms() -> None:
    alarms = {
        name: alarm["Properties"]
        for name, alarm in template.resources("AWS::CloudWatch::Alarm").items()
    }
    watched = {
        (a["MetricName"], a["Dimensions"][0]["Value"]["Fn::GetAtt"][0])
        for a in alarms.values()
        if "MetricName" in a
    }
    assert watched == {
        ("ApproximateNumberOfMessagesVisible", "RepliesDeadLetterQueue"),
        ("ApproximateNumberOfMessagesVisible", "HandoffDeadLetterQueue"),
        ("ApproximateAgeOfOldestMessage", "RepliesQueue"),
        ("ApproximateAgeOfOldestMessage", "HandoffQueue"),
    }
    thresholds = {name: a["Threshold"] for name, a in alarms.items() if a["Threshold"] != 0}
    assert thresholds == {
        "RepliesAgeAlarm": {"Ref": "RepliesAgeSeconds"},
        "HandoffAgeAlarm": {"Ref": "HandoffAgeSeconds"},
    }
    queries = [
        a["Metrics"][0]["Expression"]["Fn::Sub"][0] for a in alarms.values() if "Metrics" in a
    ]
    assert [re.findall(r"SUM\((\w+)\)", query) for query in queries] == [
        ["ThrottledRequests"],
        ["SystemErrors"],
    ]
    topic = {"Fn::If": ["HasAlarmTopic", [{"Ref": "AlarmTopicArn"}], {"Ref": "AWS::NoValue"}]}
    for alarm in alarms.values():
        assert alarm["AlarmActions"] == alarm["OKActions"] == topic
        assert alarm["TreatMissingData"] == "notBreaching"


def test_an_alarm_at_0_seconds_is_none() -> None:
    alarm = template.resources("AWS::CloudWatch::Alarm")["HandoffAgeAlarm"]
    said = template.template()["Conditions"][alarm["Condition"]]
    assert said == {"Fn::Not": [{"Fn::Equals": [{"Ref": "HandoffAgeSeconds"}, 0]}]}


def test_every_parameter_and_output_is_documented() -> None:
    text = DOCS.read_text()
    parameters, outputs = template.template()["Parameters"], template.template()["Outputs"]
    documented = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \| [^|]+ \|$", text, re.MULTILINE))
    assert {name: default.strip("`") for name, default in documented.items()} == {
        name: str(parameter["Default"]) for name, parameter in parameters.items()
    }
    assert re.findall(r"^\| `(\w+)` \| [^|]+ \|$", text, re.MULTILINE) == list(outputs)
