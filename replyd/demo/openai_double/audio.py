"""OpenAI's audio API: transcriptions."""

import re
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from aiohttp import BodyPartReader, web

from replyd.demo.openai_double.shared import Shared
from replyd.demo.openai_double.wire import Body, error, tokens
from replyd.ports import File

MAX_BYTES = 25 * 1024 * 1024
FORMATS = ("flac", "m4a", "mp3", "mp4", "mpeg", "mpga", "oga", "ogg", "wav", "webm")
ORDER = "Hello, I would like to order two sourdough loaves for Saturday, please."

_BYTES_A_SECOND = 2_000  # of a voice note
_LANGUAGE = re.compile(r"[a-z]{2,3}")


class AudioApi:
    """`transcripts`: from the bytes of a recording to its words. May be changed while it runs."""

    def __init__(self, shared: Shared) -> None:
        self.transcripts: Callable[[bytes], str] = lambda _: ORDER
        self._shared = shared

    def routes(self) -> Iterable[web.RouteDef]:
        return [web.post("/v1/audio/transcriptions", self._transcribe)]

    async def _transcribe(self, request: web.Request) -> web.Response:
        """POST /audio/transcriptions, with `response_format` json only and without streaming:
        https://platform.openai.com/docs/api-reference/audio/createTranscription"""
        if (denied := self._shared.denied(request)) is not None:
            return denied
        if request.content_type != "multipart/form-data":
            return error(400, "We could not parse your multipart form.")
        form, file = await _read(request)
        self._shared.requests.append(form)
        if file is not None:
            self._shared.see(file)
        if (hindered := await self._shared.hindered(request)) is not None:
            return hindered
        if (refused := self._refused(form, file)) is not None:
            return refused
        data = file.data if file is not None else b""
        text = self.transcripts(data)
        seconds = -(-len(data) // _BYTES_A_SECOND)
        return self._shared.send(_transcription(form["model"], text, seconds))

    def _refused(self, form: Body, file: File | None) -> web.Response | None:
        for name, given in (("file", file), ("model", form.get("model"))):
            if not given:
                message = f"Missing required parameter: '{name}'."
                return error(400, message, code="missing_required_parameter", param=name)
        if not self._shared.has_model(form["model"]):
            message = f"The model '{form['model']}' does not exist"
            return error(404, message, code="model_not_found", param="model")
        if _LANGUAGE.fullmatch(form.get("language", "en")) is None:
            message = "Invalid language. Language parameter must be in ISO-639-1 format."
            return error(400, message, code="invalid_language_format", param="language")
        if form.get("response_format", "json") != "json":
            message = f"response_format '{form['response_format']}' is not compatible with model."
            return error(400, message, code="unsupported_value", param="response_format")
        assert file is not None
        if len(file.data) > MAX_BYTES:
            return error(413, f"413: Maximum content size limit ({MAX_BYTES}) exceeded")
        if file.name.rpartition(".")[2].lower() not in FORMATS:
            return error(400, f"Invalid file format. Supported formats: {list(FORMATS)}")
        if not file.data:
            return error(400, "Audio file is too short. Minimum audio length is 0.1 seconds.")
        return None


async def _read(request: web.Request) -> tuple[Body, File | None]:
    """The plain fields, and the file, in chunks: as a whole it may be larger than the server
    takes."""
    form: Body = {}
    file = None
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader):
            continue
        data = b"".join([chunk async for chunk in _chunks(part)])
        if part.name == "file":
            kind = part.headers.get("Content-Type", "application/octet-stream")
            file = File(part.filename or "", kind, data)
        elif part.name:
            form[part.name] = data.decode(errors="replace")
    return form, file


async def _chunks(part: BodyPartReader) -> AsyncIterator[bytes]:
    while chunk := await part.read_chunk(1 << 16):
        yield bytes(chunk)


def _transcription(model: str, text: str, seconds: int) -> Body:
    """https://platform.openai.com/docs/api-reference/audio/json-object"""
    if model == "whisper-1":
        return {"text": text, "usage": {"type": "duration", "seconds": seconds}}
    heard, written = 10 * seconds, tokens(text)
    body: dict[str, Any] = {
        "text": text,
        "usage": {
            "type": "tokens",
            "input_tokens": heard,
            "input_token_details": {"text_tokens": 0, "audio_tokens": heard},
            "output_tokens": written,
            "total_tokens": heard + written,
        },
    }
    if model == "gpt-transcribe":
        body["languages"] = [{"code": "en"}] if text else []
    return body
