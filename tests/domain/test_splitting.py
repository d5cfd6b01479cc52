"""What stays whole when a long reply is cut, and what is closed and reopened."""

import re

import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st

from replyd.domain.text import split_reply, units
from tests.support.cpu import spent

ADDRESSES = [
    "https://example.com/a_(b)_c/d?e=*f*&g=~h~",
    "HTTP://x.y/path",
    "www.example.com/shop",
    "wa.me/447700900001",
    "first_last@mail.example.com",
    "+44 (0)20 7946 0000",
    "(020) 7946-0000",
    "07700\u00a0900 001",
]
CHARACTERS = [
    "👩‍👩‍👧‍👦",
    "👍🏽",
    "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "🇬🇧",
    "1️⃣",
    "ȩ́",
    "\u1112\u1161\u11ab",
    "क्षि",
    "字",
    "a",
]
# Numbers behind one another need a comma to be told apart.
WORDS = st.sampled_from(
    [*(f"{a}," for a in ADDRESSES), *CHARACTERS, "word", "longer-word", "end.", "done!"]
)
SENTENCES = st.lists(WORDS, min_size=1, max_size=25).map(" ".join)
MARKED = st.tuples(st.sampled_from(["*", "_", "~", "*_", "_~*"]), SENTENCES).map(
    lambda pair: f"{pair[0]}{pair[1]}{pair[0][::-1]}"
)
CODE = st.lists(st.sampled_from(["x = 1", "    y", "*z", "", "a b c d"]), min_size=1, max_size=30)
LINES = st.one_of(
    st.lists(SENTENCES | MARKED, min_size=1, max_size=4).map(" ".join),
    st.lists(SENTENCES | MARKED, min_size=1, max_size=4).map(lambda s: f"> {' '.join(s)}"),
    st.lists(SENTENCES | MARKED, min_size=1, max_size=4).map(lambda s: f"- {' '.join(s)}"),
    SENTENCES.map(lambda s: f"12. {s}"),
    SENTENCES.map(lambda s: f"`{s}`"),
    CODE.filter(any).map(lambda lines: "```\n" + "\n".join(lines) + "\n```"),
    st.just(""),
)
REPLIES = st.lists(LINES, min_size=1, max_size=12).map("\n".join).filter(str.strip)


def letters(text: str) -> str:
    return re.sub(r"[\s*_~`>]", "", text)


@given(REPLIES, st.integers(60, 300))
def test_the_parts_of_a_formatted_reply_are_the_reply(text: str, limit: int) -> None:
    parts = split_reply(text, limit)
    assert all(0 < units(p) <= limit and p == p.strip() for p in parts)
    assert letters("".join(parts)) == letters(text)


@given(REPLIES, st.integers(60, 300))
def test_no_address_is_cut(text: str, limit: int) -> None:
    parts = split_reply(text, limit)
    for address in ADDRESSES:
        assert sum(p.count(address) for p in parts) == text.count(address)


@given(REPLIES, st.integers(60, 300))
def test_no_character_is_cut(text: str, limit: int) -> None:
    parts = split_reply(text, limit)
    cut = [c for part in parts for c in regex.findall(r"\X", letters(part))]
    assert cut == regex.findall(r"\X", letters(text))


@given(REPLIES, st.integers(60, 300))
def test_every_part_closes_the_marks_that_it_opens(text: str, limit: int) -> None:
    for part in split_reply(text, limit):
        assert part.count("```") % 2 == 0
        prose = re.sub("```.+?```", "", part, flags=re.DOTALL)
        for address in ADDRESSES:
            prose = prose.replace(address, "a")
        assert prose.count("`") % 2 == 0
        for line in re.sub("`[^`\n]+`", "", prose).split("\n"):
            for mark in "*_~":
                assert line.count(mark) % 2 == 0, (mark, line)
                assert mark * 2 not in line


@given(REPLIES, st.integers(60, 300))
def test_what_is_marked_is_cut_only_when_it_is_too_long(text: str, limit: int) -> None:
    parts = split_reply(text, limit)
    prose = re.sub("```.+?```|`.+?`", "", text, flags=re.DOTALL)
    for address in ADDRESSES:
        prose = prose.replace(address, "x" * len(address))
    for mark in "*_~":
        for found in re.finditer(f"(?<!\\S){re.escape(mark)}[^*_~\n]+{re.escape(mark)}", prose):
            inside = found[0]
            if units(inside) <= limit - 2 and "x" not in inside:
                assert any(inside in part for part in parts)


@given(
    st.text()
    | st.lists(st.sampled_from([*"*_~`> \n.1-+(@ax", "```", " \u0301", "🇬"])).map("".join),
    st.integers(1, 60),
)
@example("> " * 40, 40)
@example("*" + "a" * 80 + "*", 40)
@example("\u0301" * 99, 7)
@example(("a" + "\u0301" * 60 + " ") * 3, 41)
def test_whatever_is_written_is_sent(text: str, limit: int) -> None:
    parts = split_reply(text, limit)
    assert all(0 < units(p) <= max(2, limit) for p in parts)
    assert letters("".join(parts)) == letters(text)
    if units(text.strip()) <= limit:
        assert parts == ((text.strip(),) if text.strip() else ())


LONG = "word " * 9 + "end"  # 48 units


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        # What is marked and fits is not cut, even where the part before it is short.
        ("Dear all, *" + "word " * 6 + "end* x", ("Dear all,", "*" + "word " * 6 + "end* x")),
        ("a *" + LONG + "* z", ("a *word word word word word word word*", "*word word end* z")),
        (
            "*_" + LONG + "_* z",
            ("*_word word word word word word word_*", "*_word word end_* z"),
        ),
        ("~" + "a" * 50 + "~", ("~" + "a" * 38 + "~", "~" + "a" * 12 + "~")),
        ("`" + LONG + "`", ("`word word word word word word word`", "`word word end`")),
        (
            "```\nif x:\n    " + "a" * 20 + "\n    " + "b" * 20 + "\n```",
            ("```\nif x:\n    " + "a" * 20 + "\n```", "```\n    " + "b" * 20 + "\n```"),
        ),
        ("> " + LONG, ("> word word word word word word word", "> word word end")),
        ("> " + LONG + "\n> x", ("> word word word word word word word", "> word word end\n> x")),
        (
            "> " + "word " * 7 + "   \n> more words here",
            ("> word word word word word word word", "> more words here"),
        ),
        ("> *" + LONG + "*", ("> *word word word word word word word*", "> *word word end*")),
        # A list's mark stays with its text.
        ("a" * 30 + "\n2. word word\n- x", ("a" * 30, "2. word word\n- x")),
        ("word " * 7 + "-\xa0x 10 kg", ("word " * 7 + "-\xa0x", "10 kg")),
        # Numbers and addresses.
        ("call us at any time on +44 20 7946 0000", ("call us at any time on +44 20 7946 0000",)),
        ("call us at any time on: +44 20 7946 0000", ("call us at any time on: +44 20 7946 0000",)),
        (
            "please call us at any time: +44 20 7946 0000",
            ("please call us at any time:", "+44 20 7946 0000"),
        ),
        ("字" * 30 + "https://x.y/abcdef。", ("字" * 30, "https://x.y/abcdef。")),
        ("字" * 30 + "me.too@x.y.example", ("字" * 30, "me.too@x.y.example")),
        ("https://x.y/" + "a" * 40, ("https://x.y/" + "a" * 28, "a" * 12)),
        # What only looks like a mark.
        ("2*3 " + LONG + " 4*5", ("2*3 word word word word word word word", "word word end 4*5")),
        ("* " + LONG + " *", ("* word word word word word word word", "word word end *")),
        ("*x" + "\nword" * 12 + "*", ("*x" + "\nword" * 7, "word" + "\nword" * 4 + "*")),
        # Sentences end with their marks.
        (
            "word word word word *word.* word word word",
            ("word word word word *word.*", "word word word"),
        ),
        (
            "word word word word (word!) word word word",
            ("word word word word (word!)", "word word word"),
        ),
    ],
)
def test_where_a_formatted_reply_is_cut(text: str, parts: tuple[str, ...]) -> None:
    assert split_reply(text, 40) == parts


@pytest.mark.parametrize("character", CHARACTERS[:-2])
@pytest.mark.parametrize("before", range(12))
def test_a_character_of_several_is_never_cut(character: str, before: int) -> None:
    text = "a" * before + character * 9
    parts = split_reply(text, 20)
    assert [c for p in parts for c in regex.findall(r"\X", p)] == regex.findall(r"\X", text)


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("mark", ["", "*", "_", "~", "("])
@pytest.mark.parametrize("limit", [45, 60, 1600])
def test_an_address_is_never_cut(address: str, mark: str, limit: int) -> None:
    shown = mark + address + mark.replace("(", ")")
    text = " ".join([shown, "word"] * 200)
    assert sum(p.count(shown) for p in split_reply(text, limit)) == 200


HOSTILE = [
    *("🇬", "🇬🇧", "\u0301", "a\u0301", "👩‍", "क्", "\u0600", "\u1112", " \u0301", "\xa0", "\t"),
    *("*", "*a", "*a ", "a* ", "*_", "_", "~*_", "`", "``", "```", "`a", "```a ", "```\n", "* *"),
    *("> ", "> a\n", ">", "- ", "1. ", "- a\n", "\n", "\r\n", " ", " a", ". ", "。", "。」", "a. "),
    *("https://", "www.a", "wa.me/", "http://a ", "@", "a@", "a@b", "a@b.", "a@b.c", "_a@b.c_ "),
    *(
        "1",
        "1 ",
        "+1",
        "(1)",
        "1-",
        "1 1 1 1 1 1 1 a",
        "+44 20 7946 0000 ",
        ".",
        "a.",
        "!)*",
        "*a*",
    ),
    *("http://=*a", "http://a(", "http://=_a_", "www.***", "=*", "(", "-1", "a@b.c."),
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_text_takes_bounded_time(piece: str) -> None:
    text = piece * (25_000 // len(piece))
    for hostile, limit in ((f"> *{text}a*", 45), (f"a{text}a", 1600)):
        with spent() as cpu:
            parts = split_reply(hostile, limit)
        assert cpu.seconds < 2.5
        assert all(0 < units(p) <= limit for p in parts)
