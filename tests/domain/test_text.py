import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from replyd.domain.text import MAX_BODY, is_word, split_reply, units

WORDS = ("STOP", "Stop all", "ARRÊT", "🛑")


@pytest.mark.parametrize(
    "text",
    [
        "STOP",
        "stop",
        " Stop. ",
        "sToP!",
        "\n\tstop\r\n",
        '"Stop"',
        "“stop”",
        "‘Stop’",
        "(stop)",
        "STOP…",
        "stop,",
        "¡stop!",
        "stop;",
        "*STOP*",
        "_stop_",
        "~stop~",
        "`stop`",
        "«stop»",
        "STOP。",
        "\u200eSTOP",
        "st\u00adop",
        "stop\u200b",
        "\ufeffstop",
        "\u00a0stop\xa0",
        "ＳＴＯＰ",
        "stop\x00",
        "stop  all",
        "STOP\nALL",
        "arrêt",
        "arre\u0302t",
        "🛑",
        " 🛑 ",
    ],
)
def test_an_opt_out_word(text: str) -> None:
    assert is_word(text, WORDS)


@pytest.mark.parametrize(
    "text",
    [
        "stop it",
        "don't stop",
        "stopp",
        "sto p",
        "s.t.o.p",
        "st-op",
        "stopall",
        "non-stop",
        "stop?no",
        "",
        " ",
        "...",
        "!",
        "👍",
        "\u200b",
        "arret",
        "ѕtop",
        "stop stop",
        "🛑🛑",
    ],
)
def test_no_opt_out_word(text: str) -> None:
    assert not is_word(text, WORDS)


@pytest.mark.parametrize("word", ["", " ", ".", "\u200b"])
@pytest.mark.parametrize("text", ["", "?", "\ufeff", "..."])
def test_a_picture_without_text_is_no_opt_out_even_if_a_word_is_empty(text: str, word: str) -> None:
    assert not is_word(text, (word,))


def test_turkish_letters_are_letters_of_their_own() -> None:
    assert is_word("İPTAL", ("İptal",))
    assert is_word("kapı", ("KAPı",))
    assert not is_word("İPTAL", ("ıptal",))
    assert not is_word("ıptal", ("iptal",))


def test_sharp_s_in_both_cases() -> None:
    assert is_word("SCHLUSS", ("Schluß",))


def test_no_words_match_nothing() -> None:
    assert not is_word("stop", ())


@given(st.text())
def test_every_message_is_the_word_that_it_is(text: str) -> None:
    assert is_word(text, (text,)) == any(is_word(t, (text,)) for t in (f" {text} ", f"{text}!"))


def squeezed(text: str) -> str:
    return "".join(text.split())


PIECES = st.sampled_from(
    [
        "a",
        "word",
        "longer-word",
        " ",
        "\n",
        "\n\n",
        "\t",
        ". ",
        "! ",
        "…",
        "。",
        "😀",
        "👩‍👩‍👧",
        "é",
        "\u0301",
    ]
)
TEXTS = st.text() | st.lists(PIECES, max_size=60).map("".join)


@given(TEXTS, st.integers(1, 40))
@example("😀", 1)
@example("😀" * 9, 3)
@example("a" * 99, 5)
@example(" \n " * 9, 1)
@example("\ud83d\ude00", 1)
def test_the_parts_are_the_reply(text: str, limit: int) -> None:
    parts = split_reply(text, limit)
    assert squeezed("".join(parts)) == squeezed(text)
    assert all(p != "" for p in parts)
    # A space with an accent is a character.
    assert all(p == p.strip() for p in parts if p[0] != " ")
    # A character of two units is whole, whatever the limit.
    assert all(units(p) <= max(limit, 2) for p in parts)
    assert bool(parts) == bool(text.strip())


@given(TEXTS)
def test_a_reply_that_fits_is_one_part(text: str) -> None:
    limit = max(1, units(text.strip()))
    assert split_reply(text, limit) == ((text.strip(),) if text.strip() else ())


@given(st.lists(st.text("ab.! ", min_size=1, max_size=40).filter(str.strip), min_size=1))
def test_no_word_is_cut_that_fits(words: list[str]) -> None:
    text = " ".join(words)
    assert " ".join(split_reply(text, 40)).split() == text.split()


@given(st.lists(st.integers(14, 40), min_size=2, max_size=8))
def test_paragraphs_stay_whole_where_each_fits(sizes: list[int]) -> None:
    """Each is longer than a third of the limit, so no cut before one is too early."""
    paragraphs = [("ab. " * 10)[: n - 1] + "c" for n in sizes]
    parts = split_reply("\n\n".join(paragraphs), 40)
    assert [p for part in parts for p in part.split("\n\n")] == paragraphs


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("aaaa aaaa\n\nbb\nbb bb", ("aaaa aaaa", "bb\nbb bb")),
        ("aaaaa\n\nbbb\nbb bb", ("aaaaa", "bbb\nbb bb")),
        ("aaaa aaaa\nbbb. bb", ("aaaa aaaa", "bbb. bb")),
        ("aaaa aaa. bbb bb", ("aaaa aaa.", "bbb bb")),
        ("aaaa aaaa bbb bb", ("aaaa aaaa", "bbb bb")),
        ("aaaa\taaaaa\tbbb", ("aaaa\taaaaa", "bbb")),
        ("aaaaaaaaaaaaaaaa", ("aaaaaaaaaaaa", "aaaa")),
        # Too early a break would make a part of almost nothing.
        ("a.\n\naaaa aaaa bb", ("a.\n\naaaa", "aaaa bb")),
        ("我们很好。谢谢你的消息今天见", ("我们很好。", "谢谢你的消息今天见")),
        # The break right behind the twelfth character counts.
        ("aaaaa\n\naaaaa\n\nbb", ("aaaaa\n\naaaaa", "bb")),
        ("aaaaa\naaaaaa\nbb", ("aaaaa\naaaaaa", "bb")),
        ("aaaaa aaaaaa bb", ("aaaaa aaaaaa", "bb")),
        ("😀😀😀😀😀😀😀😀", ("😀😀😀😀😀😀", "😀😀")),
        ("a😀😀😀😀😀😀😀😀", ("a😀😀😀😀😀", "😀😀😀")),
    ],
)
def test_where_a_reply_is_cut(text: str, parts: tuple[str, ...]) -> None:
    assert split_reply(text, 12) == parts


def test_the_default_limit_is_the_channels() -> None:
    assert [units(p) for p in split_reply("😀" * 1_000)] == [MAX_BODY, 400]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_units_are_utf16_code_units(text: str) -> None:
    assert units(text) == sum(2 if ord(c) > 0xFFFF else 1 for c in text)


def test_a_long_reply_is_cut_in_a_moment() -> None:
    assert len(split_reply("😀a " * 20_000)) == 50
