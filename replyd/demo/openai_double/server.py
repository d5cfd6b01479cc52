"""OpenAI on loopback, for `replyd demo` and tests, with faults on demand.

It answers as a small bakery's assistant unless told otherwise.
"""

from collections.abc import Callable, Collection, Iterable

from aiohttp import web

from replyd.demo import bakery
from replyd.demo.openai_double.assistants import AssistantsApi
from replyd.demo.openai_double.audio import AudioApi
from replyd.demo.openai_double.chat import ChatApi
from replyd.demo.openai_double.conversations import ConversationsApi
from replyd.demo.openai_double.moderations import ModerationsApi
from replyd.demo.openai_double.responses import ResponsesApi
from replyd.demo.openai_double.shared import DEFAULT_MODELS, Shared
from replyd.demo.openai_double.wire import error, model


class OpenAIDouble(Shared):
    """All APIs with one state, which `Shared` describes; what belongs to one API only is at the
    attribute of its name."""

    def __init__(
        self,
        *,
        api_key: str = "",
        models: Collection[str] = (),
        replies: Callable[[str], str] = bakery.reply,
        delay: float = 0.0,
    ) -> None:
        super().__init__(api_key=api_key, models=models, replies=replies, delay=delay)
        self.conversations = ConversationsApi(self)
        self.responses = ResponsesApi(self, self.conversations)
        self.chat = ChatApi(self)
        self.assistants = AssistantsApi(self)
        self.audio = AudioApi(self)
        self.moderations = ModerationsApi(self)

    @property
    def api_url(self) -> str:
        """What to set as `OPENAI_BASE_URL`."""
        return f"{self.base_url}/v1"

    def routes(self) -> Iterable[web.RouteDef]:
        return [
            web.get("/v1/models", self._list_models),
            web.get("/v1/models/{id}", self._get_model),
            web.post("/v1/responses", self._create_response),
            *self.responses.routes(),
            *self.conversations.routes(),
            *self.chat.routes(),
            *self.assistants.routes(),
            *self.audio.routes(),
            *self.moderations.routes(),
        ]

    def forget(self, thread_id: str = "") -> None:
        """Drop a stored response, a conversation or a thread, or all of them."""
        self.responses.forget(thread_id)
        self.conversations.forget(thread_id)
        self.assistants.forget(thread_id)

    async def _create_response(self, request: web.Request) -> web.Response:
        """Here for subclasses that hold responses up."""
        return await self.responses.create(request)

    async def _list_models(self, request: web.Request) -> web.Response:
        """GET /models: https://platform.openai.com/docs/api-reference/models/list"""
        if (denied := self.denied(request)) is not None:
            return denied
        data = [model(name) for name in self.models or DEFAULT_MODELS]
        return web.json_response({"object": "list", "data": data})

    async def _get_model(self, request: web.Request) -> web.Response:
        """GET /models/{model}: https://platform.openai.com/docs/api-reference/models/retrieve"""
        if (denied := self.denied(request)) is not None:
            return denied
        name = request.match_info["id"]
        if not self.has_model(name):
            return error(
                404, f"The model '{name}' does not exist", code="model_not_found", param="model"
            )
        return web.json_response(model(name))
