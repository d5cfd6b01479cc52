"""What cannot be saved, as one process: `python -m tests.benchmarks.parties.exchange`.

For each message it makes as many requests as replyd does for one that comes alone, without the
receive, by aiohttp, one after the other: no signature, no expression, nothing read from an answer,
nothing kept. Those to AWS are the smallest that there are.
"""

import asyncio
import os
import signal
from urllib.parse import parse_qsl

import aiohttp
from aiohttp import web

from tests.benchmarks.doubles.wire import announce

_AWS, _QUEUE = os.environ["AWS_ENDPOINT_URL"], os.environ["BENCH_QUEUE"]
_OPENAI, _TWILIO = os.environ["OPENAI_BASE_URL"], os.environ["BENCH_TWILIO_URL"]
_ACCOUNT = os.environ["TWILIO_ACCOUNT_SID"]
_AWS_REQUESTS = 7
_ASKED = b'{"model":"gpt-6-luna","input":"hello"}'
_JSON = {"Content-Type": "application/json"}
_DEPTH = b'{"QueueUrl":"%s","AttributeNames":["ApproximateNumberOfMessages"]}' % _QUEUE.encode()
_TARGET = {
    "Content-Type": "application/x-amz-json-1.0",
    "X-Amz-Target": "AmazonSQS.GetQueueAttributes",
}


class Exchange:
    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._tasks: set[asyncio.Task[None]] = set()

    async def webhook(self, request: web.Request) -> web.Response:
        params = dict(parse_qsl((await request.read()).decode()))
        task = asyncio.create_task(self._turn(params))
        self._tasks.add(task)
        task.add_done_callback(self._over)
        return web.Response()

    def _over(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        task.result()

    async def _turn(self, params: dict[str, str]) -> None:
        for _ in range(_AWS_REQUESTS):
            await self._post(_AWS, _DEPTH, _TARGET)
        await self._post(f"{_OPENAI}/responses", _ASKED, _JSON)
        form = {"From": params["To"], "To": params["From"], "Body": "hello"}
        await self._post(f"{_TWILIO}/2010-04-01/Accounts/{_ACCOUNT}/Messages.json", form)

    async def _post(
        self, url: str, data: bytes | dict[str, str], headers: dict[str, str] | None = None
    ) -> None:
        async with self._session.post(url, data=data, headers=headers) as answer:
            await answer.read()


async def main() -> None:
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        app = web.Application()
        app.router.add_post("/webhooks/twilio/whatsapp", Exchange(session).webhook)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        announce(port=runner.addresses[0][1])
        await over.wait()
        await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
