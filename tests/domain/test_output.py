import json

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from replyd.domain.output import SCHEMA, Answer, parse
from tests.support.cpu import spent

WHOLE = {"content": "Hi", "handoff": True, "handoff_reason": "asked", "handoff_summary": "Wants X."}
ANSWER = Answer(content="Hi", handoff=True, reason="asked", summary="Wants X.")
BROKEN = Answer(content="", broken=True)


def test_the_schema_is_one_that_strict_outputs_take() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["additionalProperties"] is False
    assert sorted(SCHEMA["required"]) == sorted(SCHEMA["properties"])
    jsonschema.validate(WHOLE, SCHEMA)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(WHOLE),
        json.dumps(WHOLE, indent=2),
        f"```json\n{json.dumps(WHOLE)}\n```",
        f"```\n{json.dumps(WHOLE, indent=2)}\n```\n",
        f"Here is my answer:\n{json.dumps(WHOLE)}\nDone.",
        f"For {{name}}, {{}} and {{'x'}}: {json.dumps(WHOLE)}",
        json.dumps({"language": "en", **WHOLE, "extra": {"content": 1}}),
        json.dumps(WHOLE) * 2,
        f'{{"thought": 1}} {json.dumps(WHOLE)}',
    ],
)
def test_an_object_in_all_its_wrappings(text: str) -> None:
    assert parse(text) == ANSWER


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('{"content": "Hi"}', Answer("Hi")),
        ('{"handoff": true}', Answer("", handoff=True)),
        ('{"content": "a\nb"}', Answer("a\nb")),
        ('{"content": "\\ud83d\\ude00 \\ud83d"}', Answer("😀 \ufffd")),
        ('{"content": null, "handoff": "True "}', Answer("", handoff=True)),
        ('{"content": "x", "handoff": "false"}', Answer("x")),
        ('{"content": "x", "handoff": 1}', Answer("x", handoff=True)),
        ('{"content": "x", "handoff": 0}', Answer("x")),
        ('{"content": "x", "handoff": null}', Answer("x")),
        ('{"content": "x", "handoff": []}', Answer("x")),
        ('{"content": 5, "handoff_reason": 7, "handoff_summary": {}}', Answer("5", reason="7")),
        ('{"content": ["x"]}', BROKEN),
        ('{"content": {"x": 1}}', BROKEN),
        ('{"content": true}', BROKEN),
    ],
)
def test_wrong_types_and_missing_keys(text: str, answer: Answer) -> None:
    assert parse(text) == answer


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Hello!",
        "The content: yours.",
        'Set "title", "content": both.',
        "Hi {name}, {",
        '{"foo": 1}',
        "[1, 2]",
        "{}",
        '"content"',
        "null",
        '{"contents": 1',
        "```python\nx = {}\n```",
    ],
)
def test_other_text_is_the_content(text: str) -> None:
    assert parse(text) == Answer(content=text)


@pytest.mark.parametrize(
    "text",
    [
        '{"content": "Hel',
        '```json\n{\n  "content": "Hel',
        'Sure:\n{"content": "Hel',
        '{"language": "en", "content": "Hel',
        '{"handoff": tru',
        '{"content": "He said "hello" to me."}',
        "{'content': 'Hi', 'handoff': False}",
        '"{\\"content\\": \\"Hi\\"}"',
        '{"answer": {"content": "Hi"}}',
        '{"content": "a"}, "handoff": true}',
        '{"content": "a"} {"content": "b"}',
        '{"content": "a"} {"content": "b',
        '{"content": "x", "a": ' + "[" * 100_000,
    ],
)
def test_what_was_meant_as_an_object_and_cannot_be_read_is_broken(text: str) -> None:
    assert parse(text) == BROKEN


@pytest.mark.parametrize("size", range(1, len(json.dumps(WHOLE))))
def test_an_object_cut_off_anywhere_never_reaches_the_customer(size: int) -> None:
    assert parse(json.dumps(WHOLE)[:size]) == BROKEN
    assert parse("```json\n" + json.dumps(WHOLE, indent=1)[:size]) == BROKEN


@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.booleans(),
    st.text("ab{}\"'"),
    st.text("c\\"),
)
@example('{"content": "x"}', True, '", "content": ', "```")
def test_what_the_schema_allows_is_read_as_it_was_written(
    content: str, handoff: bool, reason: str, summary: str
) -> None:
    written = dict(zip(SCHEMA["properties"], (content, handoff, reason, summary), strict=True))
    assert parse(json.dumps(written)) == Answer(content, handoff, reason, summary)
    assert parse(json.dumps(written, ensure_ascii=False)) == Answer(
        content, handoff, reason, summary
    )


JUNK = st.sampled_from(
    [
        "{",
        "}",
        '"',
        ":",
        ",",
        "[",
        "]",
        "\\",
        '"content"',
        '"handoff"',
        "true",
        "1e999",
        "NaN",
        "```",
    ]
)


@given(st.text() | st.lists(JUNK | st.text(max_size=2), max_size=40).map("".join))
def test_nothing_raises_and_no_key_is_sent(text: str) -> None:
    answer = parse(text)
    assert not (answer.broken and answer.content)
    assert not answer.content.lstrip().startswith('{"content":')


@pytest.mark.parametrize(
    "piece",
    ["{", '{"', '{"a":', '{"a":[', '{"content":', '{"a":1},', ",  ", "[", "\\{", '{"a":[1,'],
)
def test_hostile_text_takes_bounded_time(piece: str) -> None:
    with spent() as cpu:
        parse(piece * (100_000 // len(piece)))
    assert cpu.seconds < 1
