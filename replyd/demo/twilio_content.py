"""Templates of Twilio's Content API, as a send fills them in:
https://www.twilio.com/docs/content/using-variables-with-content-api"""

import json
import re
from collections.abc import Mapping

_VARIABLE = re.compile(r"\{\{(\S{1,16})\}\}")
# https://www.twilio.com/docs/api/errors/21656
_NOT_IN_A_VALUE = re.compile(r"[\n\t]| {5}")


def refusal(form: Mapping[str, str], templates: Mapping[str, str]) -> int:
    """The code that Twilio refuses a send with `ContentSid` with, or 0. `templates`: bodies by
    SID."""
    if "ContentSid" not in form:
        return 0
    if form["ContentSid"] not in templates:
        return 21655
    values = _values(form)
    if values is None or not all(isinstance(v, str) and v.strip() for v in values.values()):
        return 21656
    return 21656 if any(_NOT_IN_A_VALUE.search(value) for value in values.values()) else 0


def body_of(form: Mapping[str, str], templates: Mapping[str, str]) -> str:
    """What the customer reads; a variable without a value keeps its default."""
    if "ContentSid" not in form:
        return form.get("Body", "")
    values = _values(form) or {}
    return _VARIABLE.sub(
        lambda v: values.get(v[1], f"sample {v[1]}"), templates[form["ContentSid"]]
    )


def _values(form: Mapping[str, str]) -> dict[str, str] | None:
    try:
        values = json.loads(form.get("ContentVariables", "{}"))
    except ValueError:
        return None
    return values if isinstance(values, dict) else None
