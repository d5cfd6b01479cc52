"""OpenAI's moderations API."""

import re
import uuid
from collections.abc import Callable, Collection, Iterable
from typing import Any

from aiohttp import web

from replyd.demo.openai_double.shared import Shared
from replyd.demo.openai_double.wire import Body, error

CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)
_OF_IMAGES = (
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "violence",
    "violence/graphic",
)
_WORDS = (
    (re.compile(r"\b(idiots?|stupid)\b", re.I), ("harassment",)),
    (re.compile(r"\b(kill|hurt) you\b", re.I), ("harassment/threatening", "violence")),
    (re.compile(r"\b(kill|hurt) myself\b", re.I), ("self-harm", "self-harm/intent")),
)


def by_words(text: str) -> set[str]:
    """The categories of a few plain words."""
    return {name for pattern, names in _WORDS if pattern.search(text) for name in names}


class ModerationsApi:
    """`rule`: from a text to the categories that it falls into. May be changed while it runs."""

    def __init__(self, shared: Shared) -> None:
        self.rule: Callable[[str], Collection[str]] = by_words
        self._shared = shared

    def routes(self) -> Iterable[web.RouteDef]:
        return [web.post("/v1/moderations", self._create_moderation)]

    async def _create_moderation(self, request: web.Request) -> web.Response:
        """POST /moderations: https://platform.openai.com/docs/api-reference/moderations/create"""
        body = await self._shared.accept(request)
        if isinstance(body, web.Response):
            return body
        model = body.get("model") or "omni-moderation-latest"
        if not self._shared.has_model(model):
            message = f"The model '{model}' does not exist"
            return error(404, message, code="model_not_found", param="model")
        given = _inputs(body.get("input"))
        if given is None:
            message = "Invalid 'input': expected a text, texts, or texts and images."
            return error(400, message, code="invalid_type", param="input")
        results = [_result(self.rule(text), kinds) for text, kinds in given]
        answer = {"id": f"modr-{uuid.uuid4().hex}", "model": model, "results": results}
        return self._shared.send(answer)


def _inputs(given: Any) -> list[tuple[str, list[str]]] | None:
    """Each text, with the kinds of input that it stands for. Texts and images that come together
    are looked at as one."""
    if isinstance(given, str):
        return [(given, ["text"])]
    if not isinstance(given, list) or not given:
        return None
    if all(isinstance(one, str) for one in given):
        return [(one, ["text"]) for one in given]
    if not all(isinstance(one, dict) and one.get("type") in ("text", "image_url") for one in given):
        return None
    texts = [str(one.get("text") or "") for one in given]
    kinds = {"text" if one["type"] == "text" else "image" for one in given}
    return [("\n".join(texts), sorted(kinds))]


def _result(found: Collection[str], kinds: list[str]) -> Body:
    """https://platform.openai.com/docs/api-reference/moderations/object"""
    return {
        "flagged": bool(found),
        "categories": {name: name in found for name in CATEGORIES},
        "category_scores": {name: 0.97 if name in found else 0.0001 for name in CATEGORIES},
        "category_applied_input_types": {
            name: [kind for kind in kinds if kind == "text" or name in _OF_IMAGES]
            for name in CATEGORIES
        },
    }
