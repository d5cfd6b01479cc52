"""The JSON Schema of a tool's arguments, and what the model writes compared with it."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import jsonschema
from jsonschema.exceptions import best_match
from jsonschema.protocols import Validator
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import specification_with

from replyd.domain.tools import ToolSpec

# No vendor states a limit. Arguments are a few fields that a model wrote, and are kept with the
# turn, where 400 KB is DynamoDB's limit for all of an item.
MAX_ARGUMENT_BYTES = 64 * 1024
MAX_DEPTH = 32

_MAX_SHOWN = 200
_MAX_NAME = 64
_MAX_PROBLEMS = 3

_DIALECTS: Mapping[str, type[Validator]] = {
    dialect.META_SCHEMA["$schema"].rstrip("#"): dialect
    for dialect in (
        jsonschema.Draft202012Validator,
        jsonschema.Draft201909Validator,
        jsonschema.Draft7Validator,
        jsonschema.Draft6Validator,
        jsonschema.Draft4Validator,
    )
}
# Without a registry the validator would fetch what a reference names.
_NOTHING_ELSE: Registry[Any] = Registry()
# A pattern must be one. jsonschema knows more formats where more packages are installed, and a
# schema must not be valid on one machine and wrong on another.
_FORMATS = jsonschema.FormatChecker(formats=("regex",))
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


def check_schema(parameters: Mapping[str, Any]) -> None:
    """Whether this can be a tool's `parameters`: JSON, a valid schema of type object, in a
    dialect that we know (`$schema`, else 2020-12), whose references all end within it.

    Raises ValueError, a sentence about the schema."""
    try:
        schema = json.loads(json.dumps(dict(parameters), allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        raise ValueError("the schema cannot be written as JSON") from None
    dialect = _dialect(schema)
    _check_valid(schema, dialect)
    if schema.get("type") != "object":
        raise ValueError('the schema must have "type": "object"')
    _check_references(schema, dialect)
    try:
        _validator(schema).is_valid({})
    except RecursionError:
        raise ValueError("the schema refers to itself without end") from None


def read_arguments(text: str, spec: ToolSpec) -> dict[str, Any]:
    """The arguments of a call, as the model wrote them; none for an empty text. At most 64 KiB
    and 32 levels deep. `spec.parameters` has passed `check_schema`.

    Raises ValueError: which argument breaks which rule, without the value it has."""
    arguments = _parsed(text, spec.name)
    try:
        errors = list(_validator(spec.parameters).iter_errors(arguments))
    except (RecursionError, ArithmeticError, Unresolvable):
        raise _unusable(spec.name, "they cannot be compared with the tool's schema") from None
    if errors:
        errors.sort(key=lambda error: [str(step) for step in error.absolute_path])
        problems = list(dict.fromkeys(_problem(error) for error in errors))
        raise _unusable(spec.name, "; ".join(problems[:_MAX_PROBLEMS]))
    return arguments


# --- schemas -----------------------------------------------------------------------------------


def _dialect(schema: Mapping[str, Any]) -> type[Validator]:
    declared = schema.get("$schema")
    if declared is None:
        return jsonschema.Draft202012Validator
    found = _DIALECTS.get(declared.rstrip("#")) if isinstance(declared, str) else None
    if found is None:
        raise ValueError(f"$schema must be one of {', '.join(_DIALECTS)}")
    return found


def _validator(parameters: Mapping[str, Any]) -> Validator:
    return _dialect(parameters)(dict(parameters), registry=_NOTHING_ELSE)


def _check_valid(schema: Any, dialect: type[Validator]) -> None:
    checked = dialect(dialect.META_SCHEMA, format_checker=_FORMATS)
    try:
        error = best_match(checked.iter_errors(schema))
    except RecursionError:
        where, message = "", "it is nested too deep"
    else:
        if error is None:
            return
        where, message = _path(error.absolute_path), error.message
    at = f" at {where}" if where else ""
    raise ValueError(f"the schema is not valid{at}: {_shortened(message)}")


def _check_references(schema: Mapping[str, Any], dialect: type[Validator]) -> None:
    """What a reference leads to is followed too: it may be where no schema is expected."""
    specification = specification_with(dialect.META_SCHEMA["$schema"])
    root: Resource[Any] = specification.create_resource(schema)
    waiting = [(root, _NOTHING_ELSE.resolver_with_root(root))]
    seen = set()
    while waiting:
        resource, resolver = waiting.pop()
        contents = resource.contents
        if id(contents) in seen:
            continue
        seen.add(id(contents))
        for reference in _references(contents):
            try:
                target = resolver.lookup(reference)
            except (Unresolvable, LookupError, TypeError, ValueError):
                target = None
            if target is None or not isinstance(target.contents, Mapping | bool):
                raise ValueError(
                    f"the schema's reference {_shortened(reference)} does not lead to a schema "
                    "within it, and others are not fetched"
                )
            _check_valid(target.contents, dialect)
            waiting.append((specification.create_resource(target.contents), target.resolver))
        waiting += [(sub, resolver.in_subresource(sub)) for sub in resource.subresources()]


def _references(contents: Any) -> Iterator[str]:
    if isinstance(contents, Mapping):
        for keyword in _REFERENCES:
            if isinstance(reference := contents.get(keyword), str):
                yield reference


# --- arguments ---------------------------------------------------------------------------------


def _parsed(text: str, name: str) -> dict[str, Any]:
    if len(text.encode(errors="replace")) > MAX_ARGUMENT_BYTES:
        raise _unusable(name, f"they are longer than {MAX_ARGUMENT_BYTES // 1024} KiB")
    if not text.strip():
        return {}
    try:
        arguments = json.loads(text)
        # Python reads more than JSON: NaN, numbers too large, half of a surrogate pair.
        json.dumps(arguments, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise _unusable(name, "they are not a JSON object")
    if _deeper(arguments, MAX_DEPTH):
        raise _unusable(name, f"they are nested more than {MAX_DEPTH} levels deep")
    return arguments


def _deeper(value: Any, levels: int) -> bool:
    layer = [value]
    for _ in range(levels):
        layer = [
            inner
            for outer in layer
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return any(isinstance(value, dict | list) for value in layer)


def _problem(error: jsonschema.ValidationError) -> str:
    where = _path(error.absolute_path) or "the object of all arguments"
    rule = str(error.validator)
    wanted, value = cast("Any", error.validator_value), cast("Any", error.instance)
    if rule == "required":
        missing = [name for name in wanted if name not in value]
        return f"{where} lacks the required {_names(missing)}"
    if rule == "additionalProperties" and wanted is False:
        schema = cast("Mapping[str, Any]", error.schema)
        known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
        fits = re.compile("|".join(f"(?:{p})" for p in patterns) or r"(?!)")
        unknown = [name for name in value if name not in known and not fits.search(name)]
        return f"{where} may only have {_names([*known, *patterns])}, and not {_names(unknown)}"
    if rule == "type":
        kinds = [wanted] if isinstance(wanted, str) else wanted
        return f"{where} must be of type {' or '.join(map(str, kinds))}"
    if rule == "None":  # the schema is `false`
        return f"{where} has something that must not be given"
    rule_as_json = json.dumps({rule: wanted}, ensure_ascii=False)
    return f"{where} does not satisfy {_shortened(rule_as_json)}"


def _unusable(name: str, why: str) -> ValueError:
    return ValueError(f"the arguments of {name} cannot be used: {why}")


def _path(steps: Sequence[str | int]) -> str:
    """Such as `order.lines[2].sku`."""
    path = ""
    for step in steps:
        path += f"[{step}]" if isinstance(step, int) else f".{_shortened(step, _MAX_NAME)}"
    return path.removeprefix(".")


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(_shortened(name, _MAX_NAME) for name in names)
    return _shortened(shown) or "nothing"


def _shortened(text: str, limit: int = _MAX_SHOWN) -> str:
    return text if len(text) <= limit else text[:limit] + "…"
