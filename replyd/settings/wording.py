"""What is wrong with a setting, as the end of a sentence that begins with its name."""

from pydantic_core import ErrorDetails

_LIMITS = {
    "greater_than_equal": "at least",
    "greater_than": "more than",
    "less_than_equal": "at most",
    "less_than": "less than",
    "string_too_long": "at most",
}
_LIMIT_NAMES = ("ge", "gt", "le", "lt", "max_length")
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list",
    "dict": "a table",
}


# Of settings that are tables with names of the operator's.
_TABLES = {
    "headers": 'it must be headers with their values, {"Authorization": "env:NAME"} in JSON',
    "map": 'it must be ids of assistants with names of profiles, {"asst_…": "sales"} in JSON',
}


def sentence(detail: ErrorDetails, key: str) -> str:
    """`key`: the setting's. Never the value, nor a key inside it: an account's token could be
    there."""
    loc, kind, context = detail["loc"], detail["type"], detail.get("ctx", {})
    if key == "accounts":
        return _about_accounts(loc)
    if key == "account_sids" and len(loc) > 1:
        return "each account is named by its SID: AC and 32 of 0-9 a-f"
    if key in _TABLES:
        return _TABLES[key]
    if kind == "value_error":
        return f"it {context['error']}"
    if kind == "literal_error":
        return f"it must be {context['expected']}"
    if kind in {"string_too_short", "too_short"}:
        return "it must not be empty"
    if kind in _LIMITS:
        limit = next(context[name] for name in _LIMIT_NAMES if name in context)
        unit = " characters" if kind.startswith("string") else ""
        return f"it must be {_LIMITS[kind]} {limit:g}{unit}"
    return f"it must be {_KINDS.get(kind.partition('_')[0], 'of another type: ' + detail['msg'])}"


def _about_accounts(loc: tuple[int | str, ...]) -> str:
    if "[key]" in loc:
        return "each account is named by its SID: AC and 32 of 0-9 a-f"
    if len(loc) > 1:
        return "each account takes one token, or a list of two, none of them empty"
    return 'it must be account SIDs with their tokens, {"AC…": ["token"]} in JSON'
