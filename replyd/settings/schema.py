"""The tree of the settings: groups, tables of groups that the operator names, and settings."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from replyd.settings.model import Settings
from replyd.settings.names import Path


@dataclass(frozen=True, slots=True)
class Group:
    """Settings by names of ours."""

    model: type[BaseModel]


@dataclass(frozen=True, slots=True)
class Tables:
    """Groups by names of the operator's, such as `tools`. `field`: the one that holds them."""

    model: type[BaseModel]
    field: FieldInfo


Node = Group | Tables | FieldInfo

ROOT = Group(Settings)


def children(group: Group) -> dict[str, Node]:
    return {key: _node(field) for key, field in group.model.model_fields.items()}


def child(node: Node, key: str) -> Node | None:
    if isinstance(node, Tables):
        return Group(node.model)
    if isinstance(node, Group) and (field := node.model.model_fields.get(key)):
        return _node(field)
    return None


def at(path: Path) -> Node | None:
    """None: there is no such setting."""
    node: Node | None = ROOT
    for key in path:
        node = child(node, key) if node else None
    return node


def setting_at(location: Path) -> Path:
    """The start of the location that is a setting; what follows is inside its value."""
    for length in range(len(location) + 1):
        if at(location[:length]) is None:
            return location[: length - 1]
    return location


def settings(group: Group = ROOT, path: Path = ()) -> Iterator[tuple[Path, FieldInfo | Tables]]:
    """Every setting and every place for named tables; not what is in them."""
    for key, node in children(group).items():
        if isinstance(node, Group):
            yield from settings(node, (*path, key))
        else:
            yield (*path, key), node


def given(value: Any, node: Node = ROOT, path: Path = ()) -> Iterator[tuple[Path, FieldInfo, Any]]:
    """Every setting that `value`, of that node, holds, those in named tables too."""
    if isinstance(node, FieldInfo):
        yield path, node, value
        return
    for key, item in value.items():
        if inner := child(node, key):
            yield from given(item, inner, (*path, key))


def is_required(field: FieldInfo) -> bool:
    """Whether `replyd serve`, or the table that it is in, cannot do without it."""
    return field.is_required() or marked(field, "required")


def marked(field: FieldInfo, mark: str) -> bool:
    return isinstance(field.json_schema_extra, dict) and bool(field.json_schema_extra.get(mark))


def is_optional(field: FieldInfo) -> bool:
    kind = field.annotation
    return get_origin(kind) in {Union, UnionType} and type(None) in get_args(kind)


def _node(field: FieldInfo) -> Node:
    kind: Any = field.annotation
    if _is_model(kind):
        return Group(kind)
    if get_origin(kind) is dict and _is_model(model := get_args(kind)[1]):
        return Tables(model, field)
    return field


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
