"""The reply function's model: the Assistants API that the design names, or the Responses API that
took its place when it was shut down."""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence

from openai import OpenAI

MODEL = "gpt-6-luna"
ASSISTANT_ID = "asst_replies"
INSTRUCTIONS = (
    "You answer customers who write to our company on WhatsApp. Be friendly, brief and plain: "
    "a few short sentences, no headings, no tables. Answer in the customer's language."
)

client = OpenAI()


def by_responses(thread_id: str, texts: Sequence[str]) -> tuple[str, str]:
    response = client.responses.create(
        model=MODEL,
        instructions=INSTRUCTIONS,
        previous_response_id=thread_id,
        input="\n".join(texts),
        truncation="auto",
    )
    return response.output_text, response.id


def by_assistant(thread_id: str, texts: Sequence[str]) -> tuple[str, str]:
    with warnings.catch_warnings():
        # The SDK marks the API as one that has ended.
        warnings.simplefilter("ignore", DeprecationWarning)
        threads = client.beta.threads
        for text in texts:
            threads.messages.create(thread_id, role="user", content=text)
        run = threads.runs.create_and_poll(thread_id=thread_id, assistant_id=ASSISTANT_ID)
        if run.status != "completed":
            raise RuntimeError(f"run {run.id} ended as {run.status}")
        page = threads.messages.list(thread_id, run_id=run.id, order="desc", limit=1)
    (content,) = page.data[0].content
    if content.type != "text":
        raise RuntimeError(f"run {run.id} answered with {content.type}")
    return content.text.value, thread_id


_APIS: Mapping[str, Callable[[str, Sequence[str]], tuple[str, str]]] = {
    "responses": by_responses,
    "assistants": by_assistant,
}
# The customer's words to the thread: the answer, and the thread to go on with.
ask = _APIS[os.environ["BENCH_OPENAI_API"]]
