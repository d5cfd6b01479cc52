"""What AWS runs for two functions, as one process that is not measured:
`python -m tests.benchmarks.parties.two_lambda.gateway`.

An HTTP endpoint before the webhook function, and the poller that hands a queue's messages to the
reply function, one at a time, and deletes each when the function has succeeded.
"""

import asyncio
import json
import os
import signal
import sys
from collections import deque
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from tests.benchmarks.doubles.wire import Answer, Connection, Request, announce

_QUEUE = os.environ["BENCH_QUEUE"]
_WEBHOOKS, _REPLIES = (
    int(os.environ["BENCH_WEBHOOK_RUNNERS"]),
    int(os.environ["BENCH_REPLY_RUNNERS"]),
)
# As many as Lambda begins with.
_POLLERS = 5
STOP_SECONDS = 10.0
_KEPT = 100_000
_FUNCTION_CORES, _GATEWAY_CORES = (
    frozenset(json.loads(os.environ[f"BENCH_{name}_CORES"])) for name in ("FUNCTION", "GATEWAY")
)


class Function:
    """A function with so many warm instances; further events wait."""

    def __init__(self, name: str, instances: int) -> None:
        self._name = name
        self._instances = instances
        self._free: asyncio.Queue[asyncio.subprocess.Process] = asyncio.Queue()
        self._processes: list[asyncio.subprocess.Process] = []
        # How long each event took, of those that nobody has asked for yet.
        self.seconds: deque[float] = deque(maxlen=_KEPT)

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    async def start(self) -> None:
        for _ in range(self._instances):
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tests.benchmarks.parties.two_lambda.runner",
                self._name,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=1 << 20,
            )
            self._processes.append(process)
            self._free.put_nowait(process)
        for _ in range(self._instances):
            process = self._free.get_nowait()
            assert process.stdout is not None
            if not await process.stdout.readline():
                raise RuntimeError(f"the function {self._name} does not start")
            self._free.put_nowait(process)

    async def stop(self) -> None:
        """At once: whatever it was given has been waited for."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            await process.wait()

    async def __call__(self, event: Any) -> Any:
        process = await self._free.get()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(event).encode() + b"\n")
        line = await process.stdout.readline()
        self._free.put_nowait(process)
        answer, seconds = json.loads(line)
        self.seconds.append(seconds)
        return answer


class Gateway:
    def __init__(self, webhook: Function, reply: Function) -> None:
        self._webhook = webhook
        self._reply = reply
        self._free = asyncio.Semaphore(_REPLIES)
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, request: Request) -> Answer:
        """The event has what the functions read, in the form of API Gateway's payload 2.0.
        `/_bench/seconds` is the bench's own."""
        if request.path == "/_bench/seconds":
            taken = [list(self._webhook.seconds), list(self._reply.seconds)]
            self._webhook.seconds.clear()
            self._reply.seconds.clear()
            return Answer(taken)
        event = {
            "version": "2.0",
            "rawPath": request.path,
            "headers": dict(request.headers),
            "requestContext": {"http": {"method": request.method, "path": request.path}},
            "body": request.body.decode(),
            "isBase64Encoded": False,
        }
        answer = await self._webhook(event)
        return Answer(answer["body"].encode(), answer["statusCode"], "text/xml")

    async def poll(self, sqs: Any) -> None:
        while True:
            answer = await sqs.receive_message(
                QueueUrl=_QUEUE,
                MaxNumberOfMessages=10,
                WaitTimeSeconds=20,
                VisibilityTimeout=180,
            )
            for message in answer.get("Messages", ()):
                await self._free.acquire()
                task = asyncio.create_task(self._invoke(sqs, message))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def finish(self) -> None:
        """Whatever the functions have been given."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_SECONDS)

    async def _invoke(self, sqs: Any, message: Any) -> None:
        try:
            record = {"messageId": message["MessageId"], "body": message["Body"]}
            answer = await self._reply({"Records": [record]})
            if not answer["batchItemFailures"]:
                await sqs.delete_message(QueueUrl=_QUEUE, ReceiptHandle=message["ReceiptHandle"])
        finally:
            self._free.release()


async def main() -> None:
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    webhook, reply = Function("webhook", _WEBHOOKS), Function("reply", _REPLIES)
    # They import on all cores, which is sooner done.
    await asyncio.gather(webhook.start(), reply.start())
    for pid in (*webhook.pids, *reply.pids):
        os.sched_setaffinity(pid, _FUNCTION_CORES)
    os.sched_setaffinity(0, _GATEWAY_CORES)
    gateway = Gateway(webhook, reply)
    server = await loop.create_server(lambda: Connection(gateway), "127.0.0.1", 0, backlog=1024)
    config = AioConfig(max_pool_connections=100, read_timeout=30)
    async with get_session().create_client("sqs", config=config) as sqs:
        polls = [asyncio.create_task(gateway.poll(sqs)) for _ in range(_POLLERS)]
        port = server.sockets[0].getsockname()[1]
        announce(port=port, pids=webhook.pids + reply.pids)
        waiting = asyncio.create_task(over.wait())
        await asyncio.wait((*polls, waiting), return_when=asyncio.FIRST_COMPLETED)
        for poll in polls:
            poll.cancel()
        await gateway.finish()
    server.close()
    await asyncio.gather(webhook.stop(), reply.stop())


if __name__ == "__main__":
    asyncio.run(main())
