"""The team's own tools, by the settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from replyd.adapters.tools.box import Tool, Tools
from replyd.bootstrap.policies import tool_specs
from replyd.domain.tools import ToolSpec
from replyd.errors import ConfigError
from replyd.settings import Settings
from replyd.settings import Tool as ToolSettings


@asynccontextmanager
async def toolbox(settings: Settings) -> AsyncIterator[Tools]:
    """Raises ConfigError for tools that cannot be had: no such function, a broken schema."""
    specs, problems = tool_specs(settings), []
    tools: list[Tool] = []
    # A cookie that is set for one customer would come along for the next.
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        for name, tool in settings.tools.items():
            try:
                tools.append(_opened(tool, specs[name], session))
            except ValueError as error:
                problems.append(f"tools.{name} cannot be used: {error}")
        if problems:
            raise ConfigError(problems)
        yield Tools(tools)


def _opened(tool: ToolSettings, spec: ToolSpec, session: aiohttp.ClientSession) -> Tool:
    # Only here: JSON Schema takes time to import, and many have no tools of their own.
    from replyd.adapters.tools.http import Endpoint, HttpTool  # noqa: PLC0415 - as said above
    from replyd.adapters.tools.python import PythonTool  # noqa: PLC0415 - likewise

    if tool.python:
        return PythonTool(spec, tool.python)
    headers = {name: value.get_secret_value() for name, value in tool.headers.items()}
    return HttpTool(spec, Endpoint(tool.url, tool.method, headers), session)
