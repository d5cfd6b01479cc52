"""What the settings mean: the docstring below a field, or the field's own description.

Read from the source when somebody asks. Pydantic's `use_attribute_docstrings` would do it at each
start, which takes 50 ms, and a process that serves has no use for it."""

import ast
import inspect
import textwrap
from collections.abc import Mapping
from functools import cache
from itertools import pairwise

from pydantic import BaseModel


def description(model: type[BaseModel], key: str) -> str:
    """Empty where nobody has written one."""
    return model.model_fields[key].description or _docstrings(model).get(key, "")


@cache
def _docstrings(model: type[BaseModel]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for each in reversed(model.mro()):
        if issubclass(each, BaseModel) and each is not BaseModel:
            found |= _own_docstrings(each)
    return found


def _own_docstrings(model: type[BaseModel]) -> Mapping[str, str]:
    definition = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    assert isinstance(definition, ast.ClassDef)
    found: dict[str, str] = {}
    for statement, below in pairwise(definition.body):
        match statement, below:
            case (
                ast.AnnAssign(target=ast.Name(id=key)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[key] = inspect.cleandoc(text)
    return found
