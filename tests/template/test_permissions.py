"""The template's policies allow what the code asks of AWS, where it asks it, and no more."""

import ast
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from replyd.ports import DeadLetterQueues, WholeTable
from replyd.provision.checks import Inspector
from replyd.provision.create import Provisioner
from tests.contract.conftest import client
from tests.support.stack import Stack, resources, template
from tests.template import calls
from tests.template.conftest import FOREIGN_TABLE, SECRETS

Grant = tuple[str, str]

ACCOUNT = "us-east-1:123456789012"
POLICIES = ("Serve", "List", "Check", "Operate", "Init")
QUEUES = ("replies", "replies-dlq", "handoff", "handoff-dlq")
INDEX = "/index/by_phone"
DOCS = Path(__file__).parents[2] / "docs" / "aws.md"


def of(protocol: type) -> set[str]:
    """The methods of an adapter that a command uses."""
    return {name for name in vars(protocol) if not name.startswith("_")}


def needed(
    policy: str,
    queues: dict[str, str],
    table: str,
    *,
    index: bool,
    secrets: Sequence[str] = (),
) -> set[Grant]:
    asks = calls.callers()

    def allow(actions: set[str], *places: str) -> Iterator[Grant]:
        services = {place: place.split(":")[2] for place in places}
        return (
            (a, place)
            for place, service in services.items()
            for a in actions
            if a.startswith(f"{service}:")
        )

    def conversations(methods: set[str]) -> Iterator[Grant]:
        """With an index the table itself is never queried, and only then read in batches."""
        store = asks["DynamoStore"]
        if not index:
            yield from allow(calls.actions(store, methods, without="_by_index"), table)
            return
        actions = calls.actions(store, methods)
        yield from allow(actions - {"dynamodb:Query"}, table)
        yield from allow(actions & {"dynamodb:Query"}, table + INDEX)

    def grants() -> Iterator[Grant]:
        replies, dead_replies, handoff, dead_handoff = (queues[name] for name in QUEUES)
        making = asks["Provisioning"]
        match policy:
            case "Serve":
                yield from allow(calls.actions(asks["SqsWakeups"]), replies)
                yield from allow(calls.actions(asks["SqsHandoffs"]), handoff)
                looking = calls.actions(asks["SqsDepths"])
                yield from allow(looking, *queues.values())
                finding = calls.actions(asks["DeadLetters"], {"url_of"})
                yield from allow(finding, dead_replies, dead_handoff)
                yield from conversations(set())
                yield from allow(calls.actions(asks["SecretsManager"]), *secrets)
            case "List":
                yield from allow(calls.actions(asks["TableScan"], {"pages"}), table)
            case "Check":
                yield from allow(calls.actions(making, of(Inspector)), replies, handoff)
                yield from allow(calls.actions(making, of(Inspector)), table)
                yield from allow(calls.actions(asks["SecretsManager"]), *secrets)
            case "Init":
                yield from allow(calls.actions(making, of(Provisioner)), *queues.values())
                yield from allow(calls.actions(making, of(Provisioner)), table)
            case "Operate":
                dead = calls.actions(asks["DeadLetters"], of(DeadLetterQueues))
                # What is asked of the queue that the dead letters came from.
                theirs = {"sqs:GetQueueAttributes", "sqs:SendMessage"}
                yield from allow(dead & theirs, replies, handoff)
                yield from allow(dead - {"sqs:SendMessage"}, dead_replies, dead_handoff)
                yield from allow(calls.actions(asks["TableScan"], of(WholeTable)), table)
                asked = calls.asked_of("store", "operate") | calls.asked_of("store", "flows/forget")
                yield from conversations(asked)

    return set(grants())


async def allowed(moto: str, stack: Stack, policy: str) -> set[Grant]:
    """What the policy, and that of the secrets with it, say once CloudFormation has resolved
    them."""
    found = await said(moto, stack.outputs[f"{policy}PolicyArn"])
    if policy in ("Serve", "Check") and "SecretsPolicyArn" in stack.outputs:
        found |= await said(moto, stack.outputs["SecretsPolicyArn"])
    return found


async def said(moto: str, arn: str) -> set[Grant]:
    async with client("iam", moto) as iam:
        version = (await iam.get_policy(PolicyArn=arn))["Policy"]["DefaultVersionId"]
        answer = await iam.get_policy_version(PolicyArn=arn, VersionId=version)
    document = answer["PolicyVersion"]["Document"]
    found = document if isinstance(document, dict) else json.loads(document)
    assert {s["Effect"] for s in found["Statement"]} == {"Allow"}
    return {
        (action, resource)
        for statement in found["Statement"]
        for action in _list(statement["Action"])
        for resource in _list(statement["Resource"])
    }


def _list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def queue_arns(prefix: str) -> dict[str, str]:
    return {name: f"arn:aws:sqs:{ACCOUNT}:{prefix}-{name}" for name in QUEUES}


def table_arn(name: str) -> str:
    return f"arn:aws:dynamodb:{ACCOUNT}:table/{name}"


TABLES = {
    "made": table_arn("made-conversations"),
    "named": table_arn("crm"),
    "foreign": FOREIGN_TABLE,
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("prefix", TABLES)
async def test_what_the_code_asks_is_allowed_and_no_more(
    moto: str, stacks: dict[str, Stack], prefix: str, policy: str
) -> None:
    wanted = needed(
        policy,
        queue_arns(prefix),
        TABLES[prefix],
        index=prefix != "made",
        secrets=SECRETS if prefix == "named" else (),
    )
    assert await allowed(moto, stacks[prefix], policy) == wanted


def test_instances_may_serve_and_check() -> None:
    """From the template itself: moto attaches nothing."""
    (role,) = resources("AWS::IAM::Role").values()
    nothing = {"Ref": "AWS::NoValue"}
    assert role["Properties"]["ManagedPolicyArns"] == [
        {"Ref": "ServePolicy"},
        {"Ref": "CheckPolicy"},
        {"Fn::If": ["HasSecrets", {"Ref": "SecretsPolicy"}, nothing]},
        {"Fn::If": ["HasOperatorApi", {"Ref": "ListPolicy"}, nothing]},
    ]
    assert "Policies" not in role["Properties"]
    # Nobody may list who has not asked for it.
    assert template()["Parameters"]["OperatorApi"]["Default"] == "false"
    assert resources("AWS::IAM::ManagedPolicy")["ListPolicy"]["Condition"] == "HasOperatorApi"
    said = template()["Conditions"]["HasOperatorApi"]
    assert said == {"Fn::Equals": [{"Ref": "OperatorApi"}, "true"]}
    (trust,) = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "ec2.amazonaws.com"}
    (profile,) = resources("AWS::IAM::InstanceProfile").values()
    assert profile["Properties"]["Roles"] == [{"Ref": "Role"}]


def test_nobody_else_asks_aws() -> None:
    """A new caller needs a place in `needed`."""
    known = {
        *("DynamoStore", "SqsWakeups", "SqsHandoffs", "SqsDepths"),
        *("Provisioning", "DeadLetters", "TableScan", "SecretsManager"),
    }
    assert set(calls.callers()) == known
    assert calls.services() == set(calls.SERVICES)
    assert calls.around() == []


def test_calls_are_found_through_helpers_and_references() -> None:
    source = """
class Caller:
    async def send(self):
        await self._all(self._client.scan)
    async def _all(self, operation):
        await self._batch()
    async def _batch(self):
        await aws.call("sqs", lambda: self._sqs.delete_message_batch(QueueUrl=self._url))
    async def other(self):
        await self._client.purge_queue()
"""
    (caller,) = ast.parse(source).body
    assert isinstance(caller, ast.ClassDef)
    assert calls.actions(caller, {"send"}) == {"dynamodb:Scan", "sqs:DeleteMessage"}
    assert calls.actions(caller, {"send"}, without="_batch") == {"dynamodb:Scan"}
    assert "sqs:PurgeQueue" in calls.actions(caller)


async def test_the_documented_permissions(moto: str, stacks: dict[str, Stack]) -> None:
    words = {
        **{arn: name for p in ("made", "named") for name, arn in queue_arns(p).items()},
        TABLES["made"]: "table",
        TABLES["named"]: "table",
        TABLES["named"] + INDEX: "index",
        **dict.fromkeys(SECRETS, "secrets"),
    }
    real = {
        (action, policy, words[place])
        for made in (stacks["made"], stacks["named"])
        for policy in POLICIES
        for action, place in await allowed(moto, made, policy)
    }
    names = {"queues": QUEUES[::2], "dlqs": QUEUES[1::2], "all queues": QUEUES}
    documented = {
        (action, policy, place)
        for action, *cells, _why in re.findall(
            r"^\| `(\w+:\w+)` \|" + r" ([^|]*) \|" * 6 + "$", DOCS.read_text(), re.MULTILINE
        )
        for policy, cell in zip(POLICIES, cells, strict=True)
        for word in filter(None, cell.strip().split(", "))
        for place in names.get(word, (word,))
    }
    assert documented == real
