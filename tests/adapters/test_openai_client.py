"""What a request says on the wire."""

from aiohttp import web
from aiohttp.test_utils import TestServer

from replyd.adapters.openai.client import create, create_client


async def test_a_request_carries_the_key_and_nothing_about_our_machine() -> None:
    seen: list[dict[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append({name.lower(): value for name, value in request.headers.items()})
        return web.json_response({"id": "resp_1"})

    app = web.Application()
    app.router.add_post("/v1/responses", answer)
    async with (
        TestServer(app) as server,
        create_client("sk-1", base_url=f"{server.make_url('/v1')}") as client,
    ):
        assert await create(client, "/responses", {"input": "hello"}) == {"id": "resp_1"}
    (headers,) = seen
    assert headers["authorization"] == "Bearer sk-1"
    assert headers["content-type"] == "application/json"
    assert [name for name in headers if name.startswith("x-stainless")] == []
