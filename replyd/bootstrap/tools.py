"""The team's own tools, by the settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from replyd.adapters.tools import Endpoint, HttpTool, PythonTool, Tool, Tools
from replyd.bootstrap.policies import tool_specs
from replyd.errors import ConfigError
from replyd.settings import Settings


@asynccontextmanager
async def toolbox(settings: Settings) -> AsyncIterator[Tools]:
    """Raises ConfigError for tools that cannot be had: no such function, a broken schema."""
    specs, problems = tool_specs(settings), []
    tools: list[Tool] = []
    # A cookie that is set for one customer would come along for the next.
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        for name, tool in settings.tools.items():
            try:
                if tool.python:
                    tools.append(PythonTool(specs[name], tool.python))
                else:
                    headers = {k: v.get_secret_value() for k, v in tool.headers.items()}
                    endpoint = Endpoint(tool.url, tool.method, headers)
                    tools.append(HttpTool(specs[name], endpoint, session))
            except ValueError as error:
                problems.append(f"tools.{name} cannot be used: {error}")
        if problems:
            raise ConfigError(problems)
        yield Tools(tools)
