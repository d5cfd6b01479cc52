"""The transcriber on OpenAI's audio API,
https://platform.openai.com/docs/api-reference/audio/createTranscription."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from openai import AsyncOpenAI, OpenAIError, omit
from openai.types.audio import Transcription

from replyd.adapters.openai.failures import NAME, once_more, translated
from replyd.domain.messages import media_type
from replyd.errors import Permanent, Temporary
from replyd.ports import File

# https://help.openai.com/en/articles/7031512-whisper-api-faq
MAX_BYTES = 25 * 1024 * 1024
# What the API takes, as the file names by which it knows the format. It takes neither AMR, AAC
# without a container, nor 3GP.
EXTENSIONS: Mapping[str, str] = {
    "audio/ogg": "ogg",
    "application/ogg": "ogg",
    "audio/opus": "ogg",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/mp4": "m4a",
    "audio/m4a": "m4a",
    "audio/x-m4a": "m4a",
    "audio/wav": "wav",
    "audio/wave": "wav",
    "audio/x-wav": "wav",
    "audio/vnd.wave": "wav",
    "audio/webm": "webm",
    "audio/flac": "flac",
    "audio/x-flac": "flac",
    "video/mp4": "mp4",
    "video/mpeg": "mpeg",
    "video/webm": "webm",
}


class OpenAITranscriber:
    """One model, on a client that the caller owns."""

    def __init__(
        self,
        client: AsyncOpenAI,
        *,
        model: str,
        language: str = "",
        timeout_seconds: float = 60.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`language`: what customers speak, as in ISO 639-1, or empty to have it detected.
        `timeout_seconds` is for a whole `transcribe`."""
        self._client = client
        self._model = model
        self._language = language
        self._timeout = timeout_seconds
        self._sleep = sleep

    async def transcribe(self, recording: File) -> str:
        """The words, empty when there are none.

        Raises Permanent, without a request, with the code `type` for audio that the API does not
        take and `size` for more than 25 MiB of it, and for what the API refuses. Raises Busy when
        throttled, Temporary for a timeout, a lost connection or a server error, DependencyDown
        when unreachable or when key, budget or model need a change."""
        content_type = media_type(recording.content_type)
        extension = EXTENSIONS.get(content_type)
        if extension is None:
            raise Permanent(NAME, "audio of this type cannot be transcribed", code="type")
        if len(recording.data) > MAX_BYTES:
            raise Permanent(NAME, "the recording is larger than 25 MiB", code="size")
        upload = (f"recording.{extension}", recording.data, content_type)
        try:
            async with asyncio.timeout(self._timeout):
                answer: object = await once_more(self._sleep, self._post, upload)
        except TimeoutError:
            raise Temporary(NAME, f"no answer within {self._timeout:g} s", code="timeout") from None
        return _text(answer)

    async def _post(self, upload: tuple[str, bytes, str]) -> object:
        try:
            return await self._client.audio.transcriptions.create(
                model=self._model,
                file=upload,
                language=self._language or omit,
                response_format="json",
            )
        except (OpenAIError, ValueError) as error:
            failure = translated(error, model=self._model)
        # Outside of the handler, so that no vendor text is chained to what may be logged.
        raise failure


def _text(answer: object) -> str:
    """The SDK does not validate what comes."""
    text: object = answer.text if isinstance(answer, Transcription) else None
    if not isinstance(text, str):
        raise Temporary(NAME, "the answer is no transcription: check OPENAI_BASE_URL")
    return text.strip()
