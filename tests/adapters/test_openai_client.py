"""What a request says on the wire."""

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer, TestServer

from replyd.adapters.openai.client import create_client


@pytest.mark.parametrize("direct", [True, False])
async def test_a_request_carries_the_key_and_nothing_about_our_machine(direct: bool) -> None:
    seen: list[dict[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append({name.lower(): value for name, value in request.headers.items()})
        return web.json_response({"id": "resp_1"})

    app = web.Application()
    app.router.add_post("/v1/responses", answer)
    async with (
        TestServer(app) as server,
        create_client("sk-1", base_url=f"{server.make_url('/v1')}", direct=direct) as client,
    ):
        assert await client.create("/responses", {"input": "hello"}) == {"id": "resp_1"}
    (headers,) = seen
    assert headers["authorization"] == "Bearer sk-1"
    assert headers["content-type"] == "application/json"
    assert [name for name in headers if name.startswith("x-stainless")] == []


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("left_out", [False, True])
async def test_the_proxy_of_the_environment(
    direct: bool, left_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        asked.append(f"{request.headers['Host']} {request.raw_path}")
        return web.json_response({})

    async with RawTestServer(answer) as server:
        port = server.port
        name = f"localhost:{port}" if left_out else "models.example"
        for scheme in ("http", "https", "all"):
            monkeypatch.delenv(f"{scheme.upper()}_PROXY", raising=False)
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("no_proxy", "localhost")
        async with create_client("sk-1", base_url=f"http://{name}/v1", direct=direct) as client:
            await client.create("/responses", {})
    # A proxy is told the whole URL.
    path = "/v1/responses" if left_out else "http://models.example/v1/responses"
    assert asked == [f"{name} {path}"]
