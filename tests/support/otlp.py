"""A collector on loopback that takes OTLP over HTTP, as protobuf."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass(frozen=True)
class Written:
    """A span, and the process that wrote it."""

    span: Span
    resource: dict[str, Any]

    @property
    def trace_id(self) -> str:
        return self.span.trace_id.hex()

    @property
    def attributes(self) -> dict[str, Any]:
        return _plain(self.span.attributes)


class Collector:
    """`spans` in the order of their arrival; `raw` is all that came."""

    def __init__(self) -> None:
        self.spans: list[Written] = []
        self.raw = b""
        self.base_url = ""
        self._runner = web.ServerRunner(web.Server(self._take))

    async def __aenter__(self) -> "Collector":
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.base_url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _take(self, request: web.BaseRequest) -> web.Response:
        # aiohttp has it decompressed.
        body = await request.read()
        if request.path != "/v1/traces" or request.content_type != "application/x-protobuf":
            return web.Response(status=404)
        self.raw += body
        for each in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _plain(each.resource.attributes)
            for scope in each.scope_spans:
                self.spans += [Written(span, resource) for span in scope.spans]
        return web.Response(body=ExportTraceServiceResponse().SerializeToString())

    async def until(self, found: Callable[[list[Written]], bool]) -> list[Written]:
        async with asyncio.timeout(30):
            while not found(self.spans):
                await asyncio.sleep(0.05)
        return self.spans

    def tree(self) -> str:
        """All spans, by time, indented below the one they are part of; those that are part of
        none, or of one that has not come, are at the edge."""
        spans = sorted((w.span for w in self.spans), key=lambda s: s.start_time_unix_nano)
        known = {span.span_id for span in spans}

        def below(parent: bytes, depth: int) -> list[str]:
            lines: list[str] = []
            for span in spans:
                if (span.parent_span_id if span.parent_span_id in known else b"") == parent:
                    lines += ["  " * depth + span.name, *below(span.span_id, depth + 1)]
            return lines

        return "\n".join(below(b"", 0))


def _plain(attributes: Any) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in attributes}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(v) for v in value.array_value.values]
    return getattr(value, kind) if kind else None
