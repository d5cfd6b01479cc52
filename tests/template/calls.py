"""What the code asks of AWS, read from its source."""

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import botocore.session
from botocore import xform_name

PACKAGE = Path(__file__).parents[2] / "replyd"
SERVICES = ("dynamodb", "secretsmanager", "sqs")
# The demo starts its own AWS; the simulation has none.
ELSEWHERE = {"demo", "simulation"}
# Its client's methods may have the names of AWS's.
OPENAI = ("adapters", "openai")


@cache
def methods_of_clients() -> dict[str, str]:
    """From the name of a client's method to the IAM action that it needs."""
    session = botocore.session.get_session()
    return {
        xform_name(operation): _action(service, operation)
        for service in SERVICES
        for operation in session.get_service_model(service).operation_names
    }


def _action(service: str, operation: str) -> str:
    """IAM knows SQS's batches by the name of what they repeat; DynamoDB's are actions."""
    return f"{service}:{operation.removesuffix('Batch') if service == 'sqs' else operation}"


@cache
def trees() -> list[tuple[str, ast.Module]]:
    paths = [path.relative_to(PACKAGE) for path in sorted(PACKAGE.rglob("*.py"))]
    return [
        (path.as_posix(), ast.parse((PACKAGE / path).read_text()))
        for path in paths
        if path.parts[0] not in ELSEWHERE and path.parts[:2] != OPENAI
    ]


def services() -> set[str]:
    """All that a client is made for, by a name that is written out."""
    known = set(botocore.session.get_session().get_available_services())
    return {
        argument.value
        for _, tree in trees()
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and "client" in ast.unparse(call.func)
        for argument in (*call.args, *(keyword.value for keyword in call.keywords))
        if isinstance(argument, ast.Constant)
        and isinstance(argument.value, str)
        and argument.value in known
    }


@cache
def callers() -> dict[str, ast.ClassDef]:
    """The classes that ask AWS."""
    return {
        node.name: node
        for _, tree in trees()
        for node in tree.body
        if isinstance(node, ast.ClassDef) and any(_actions(node))
    }


def actions(caller: ast.ClassDef, start: Iterable[str] = (), *, without: str = "") -> set[str]:
    """What the methods `start`, all by default, lead to, but for what goes through `without`. A
    method that the constructor hands on is called, too."""
    methods = {
        node.name: node
        for node in caller.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    todo = set(start) or {name for name in methods if not name.startswith("_")}
    todo |= {"__init__"} & methods.keys()
    done = {without}
    found: set[str] = set()
    while todo - done:
        name = (todo - done).pop()
        done.add(name)
        found |= set(_actions(methods[name]))
        todo |= {
            node.attr
            for node in ast.walk(methods[name])
            if _is_own(node) and isinstance(node, ast.Attribute) and node.attr in methods
        }
    return found


def _actions(tree: ast.AST) -> Iterator[str]:
    """Of every `self._something.method`, whatever is done with it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _is_own(node.value):
            yield from filter(None, [methods_of_clients().get(node.attr)])


def _is_own(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    )


def around() -> list[str]:
    """Ways to ask AWS that `callers` does not see."""
    inside = {id(node) for caller in callers().values() for node in ast.walk(caller)}
    # Other things have a `query` too, and pydantic's secrets a `get_secret_value`.
    asking = methods_of_clients().keys() - {"query", "get_secret_value"}
    hiding = {"get_paginator", "get_waiter", "_make_api_call", "__getattribute__"}
    return [
        f"{name}:{node.lineno} {node.attr}"
        for name, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and (
            node.attr in hiding
            or (node.attr in asking and not (id(node) in inside and _is_own(node.value)))
        )
    ]


def asked_of(name: str, package: str) -> set[str]:
    """Methods of `something.<name>` that the modules of `package` mention."""
    return {
        node.attr
        for path, tree in trees()
        if path.startswith(f"{package}/")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == name
    }
