import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from replyd.domain.formatting import plain, whatsapp
from replyd.domain.formatting.inline import MAX_NESTING
from tests.support.cpu import spent


@pytest.mark.parametrize(
    ("markdown", "written"),
    [
        ("**x**", "*x*"),
        ("__x__", "*x*"),
        ("*x*", "_x_"),
        ("_x_", "_x_"),
        ("***x***", "*_x_*"),
        ("~~x~~", "~x~"),
        ("**~~x~~**", "*~x~*"),
        ("***a* b**", "*_a_ b*"),
        ("*a **b** c*", "_a *b* c_"),
        ("**a __b__ c**", "*a b c*"),
        ("`a*b*`", "`a*b*`"),
        ("``a`b``", "```a`b```"),
        ("```a b```", "```a b```"),
        ("**`x`**", "*`x`*"),
        ("(**x**), “**y**”!", "(*x*), “*y*”!"),
        ("**नमस्ते** **שלום**", "*नमस्ते* *שלום*"),
        # WhatsApp's marks end with the line.
        ("**a\nb** c", "*a*\n*b* c"),
        ("**a  \nb**", "*a*\n*b*"),
    ],
)
def test_emphasis_in_whatsapps_marks(markdown: str, written: str) -> None:
    assert whatsapp(markdown) == written


@pytest.mark.parametrize(
    ("markdown", "written"),
    [
        ("**Note: **text", "*Note:* text"),
        ("see ** this**.", "see  *this*."),
        ("** Note **", " *Note*"),
        ("**[ x](u)**", " *x (u)*"),
        ("**Note:**text", "Note:text"),
        ("un**believ**able", "unbelievable"),
        ("**bold**s", "bolds"),
        ("x~~y~~z", "xyz"),
        ("**5**kg", "5kg"),
        ("**अ**ि", "अि"),
        ("这是**重要**的", "这是重要的"),
        ("这是*重要*的", "这是重要的"),
        ("这是**“重要”**的", "这是“重要”的"),
        ("请看**iPhone 15 Pro**的价格", "请看iPhone 15 Pro的价格"),
        ("「**重要**」", "「*重要*」"),
        ("**bold***it*", "bold*it*"),
    ],
)
def test_marks_touch_the_text_and_no_word_outside(markdown: str, written: str) -> None:
    assert whatsapp(markdown) == written


@pytest.mark.parametrize(
    ("markdown", "written"),
    [
        ("# Heading", "*Heading*"),
        ("### A **b** *c* #\ntext", "*A b _c_*\ntext"),
        ("#", "#"),
        ("a\n\n---\n\nb\n***", "a\n\n———\n\nb\n———"),
        ("a\n===", "a\n==="),
        ("a  \nb\\\nc\nd", "a\nb\nc\nd"),
        ("a\n\nb\n\n\nc\n\n\n\n\nd", "a\n\nb\n\n\nc\n\n\nd"),
        (r"\*x\* \# \_", "*x* # _"),
        ("> a\n> b\n>\n> **c**\n\nx", "> a\n> b\n\n> *c*\n\nx"),
        ("> a\n> > b", "> a\n> b"),
        ("> - a\n>   - b", "> - a\n>     ◦ b"),
        ("```python\nx = 1\n\n*y*\n```\nafter", "```\nx = 1\n\n*y*\n```\nafter"),
        ("~~~\nx\n~~~", "```\nx\n```"),
        ("```see this\nx\n```", "```\nsee this\nx\n```"),
        ("````\n```\n````", "```"),
        ("> ```\n> x\n> ```", "> x"),
        ("```\ncut off", "```\ncut off\n```"),
        ("```line1\nline2```", "```line1\nline2```"),
        ("```", "```"),
    ],
)
def test_blocks(markdown: str, written: str) -> None:
    assert whatsapp(markdown) == written


@pytest.mark.parametrize(
    ("markdown", "written"),
    [
        ("[text](https://a.b/c_d_e)", "text (https://a.b/c_d_e)"),
        ("[https://a.b/](https://a.b/)", "https://a.b/"),
        ("[a.b](https://www.a.b/)", "https://www.a.b/"),
        ("**[A.b](https://a.b)**", "*https://a.b*"),
        ("[**A.b** ](https://a.b) c", "*https://a.b* c"),
        ("[**x**](https://a.b/ä&amp;c)", "*x* (https://a.b/ä&c)"),
        ('[x](<u> "title")', "x (u)"),
        ("[mail us](mailto:a@b.c)", "mail us (a@b.c)"),
        ("[a@b.c](mailto:a@b.c)", "a@b.c"),
        ("[call](tel:+4412)", "call (+4412)"),
        ("[x]()", "x"),
        ("[](u)", "u"),
        ("[x][y] [z]", "[x][y] [z]"),
        ("![alt](http://i/p.png)", "alt (http://i/p.png)"),
        ("![](http://i/p.png)", "http://i/p.png"),
        ("[![alt](i)](u)", "alt (i) (u)"),
    ],
)
def test_links_and_images(markdown: str, written: str) -> None:
    assert whatsapp(markdown) == written


@pytest.mark.parametrize(
    ("markdown", "written"),
    [
        ("- a\n- **b**", "- a\n- *b*"),
        ("* a\n* b\n\n* c", "- a\n- b\n\n- c"),
        ("+ a\n+ b\n- c", "+ a\n+ b\n- c"),
        ("3. a\n4. b", "3. a\n4. b"),
        ("1. a\n1. b\n1. c", "1. a\n2. b\n3. c"),
        ("1) a\n2) b", "1) a\n2) b"),
        ("1. a\n   - b\n   - c\n     1. d\n2. e", "1. a\n    ◦ b\n    ◦ c\n        1. d\n2. e"),
        ("- [ ] a\n- [x] b\n- [X] c\n- [y] d", "☐ a\n☑ b\n☑ c\n- [y] d"),
        ("- a\n  - [ ] b", "- a\n    ☐ b"),
        ("1. [ ] a", "1. [ ] a"),
        ("1. **T**\n   desc\n\n   para\n2. z", "1. *T*\n   desc\n\n   para\n2. z"),
        ("- Anna\nThe team", "- Anna\nThe team"),
        ("1. a\n   ```\n   x\n   ```\n   > q", "1. a\n```\nx\n```\n> q"),
        ("- # T\n- - a\n-\n- \\\n", "- *T*\n-\n    ◦ a\n-\n- \\"),
        ("- ```\n  x\n  ```", "-\n```\nx\n```"),
        ("- [](<>)", "-"),
    ],
)
def test_lists(markdown: str, written: str) -> None:
    assert whatsapp(markdown) == written


@pytest.mark.parametrize(
    ("markdown", "written"),
    [
        (
            "| Day | Open |\n|---|---|\n| Mon | **9–17** |\n| Tue | |",
            "*Day: Open*\nMon: *9–17*\nTue",
        ),
        ("| | |\n|---|---|\n| a | b |", "a: b"),
        (
            "|Plan|*Price*|Users|\n|-|:-:|-|\n|Basic|5|3|\n|Pro||9|\nThat is all.\n\nx",
            "Plan: Basic, _Price_: 5, Users: 3\nPlan: Pro, Users: 9\nThat is all.\n\nx",
        ),
        ("|a||c|\n|-|-|-|\n|1|2|3|\n||||", "a: 1, 2, c: 3"),
        ("|a|\n|-|\n|b|", "*a*\nb"),
        ("|a|b|c|\n|-|-|-|", "*a: b: c*"),
    ],
)
def test_tables_as_lines(markdown: str, written: str) -> None:
    assert whatsapp(markdown) == written


@pytest.mark.parametrize(
    "text",
    [
        "2*3*4",
        "2**8 is 256** x",
        "2**3 + 4**5",
        "1234****5678****9012",
        "f**k and s**t",
        "5 ** x ** 2",
        "one**, two**",
        "a*b*c",
        "snake_case_name",
        "* not closed",
        "*not closed",
        "#hashtag",
        "1) x",
        "2024. What a year.",
        "5 > 3",
        "a<b>c</b> <br> <!-- x -->",
        "&amp; &copy;",
        "https://x.y/a_b_c?d=*e*",
        "https://x.y/a_(b)_c (https://x.y/*a*/_b_)",
        "first_last@x.y, _a_b@x.y",
        "-5 degrees",
        "+44 20 7946 0000",
        "$5.00 ~ 6",
        "C:\\dir",
        "    indented\n        more\n  less",
        "\u3000字\n\tx",
        "a\n- b",
        "> quoted",
        "~struck~ `code`",
        "a | b",
        "x\x00y",
    ],
)
def test_text_without_markdown_stays(text: str) -> None:
    assert whatsapp(text) == text
    if text != "~struck~ `code`":
        assert plain(text) == text


@pytest.mark.parametrize(
    ("markdown", "written"),
    [
        ("**see https://x.y/a_b**", "*see https://x.y/a_b*"),
        ("**https://x.y**, *https://x.y/z*.", "*https://x.y*, _https://x.y/z_."),
        ("HTTPS://x.y?a=*b*&c=_d_ *e*", "HTTPS://x.y?a=*b*&c=_d_ _e_"),
        (r"https://x.y/a\_b", "https://x.y/a_b"),
        ("ftp:*a*", "ftp:_a_"),
    ],
)
def test_marks_around_addresses_and_in_them(markdown: str, written: str) -> None:
    assert whatsapp(markdown) == written


def test_line_ends_of_other_systems() -> None:
    assert whatsapp("a\r\n\r\n**b**\rc") == "a\n\n*b*\nc"
    assert plain("a\r\n\r\n**b**\rc") == "a\n\nb\nc"


@pytest.mark.parametrize(
    ("markdown", "written"),
    [
        ("**x** *y* ~~z~~ `a*b*` ``a`b``", "x y z a*b* a`b"),
        ("***a* b** un**believ**able 2*3*4", "a b unbelievable 2*3*4"),
        ("**a 2*3*4\nb** f**k", "a 2*3*4\nb f**k"),
        ("**Note: **text", "Note: text"),
        ("** Note **", " Note"),
        ("~struck~", "~struck~"),
        ("# A **b** *c* #\ntext", "A b c\ntext"),
        ("#", "#"),
        ("a\n\n---\n\nb", "a\n\n---\n\nb"),
        ("> a\n> **b**", "> a\n> b"),
        ("```python\nx = 1\n\n*y*\n```\nafter", "x = 1\n\n*y*\nafter"),
        ("```see this\nx\n```", "see this\nx"),
        ("```\ncut off", "cut off"),
        (
            "[**x**](https://a.b/c_d) ![alt](http://i/p.png)",
            "x (https://a.b/c_d) alt (http://i/p.png)",
        ),
        ("**[A.b](https://a.b)**", "https://a.b"),
        ("* a\n* **b**\n  - c\n    1. d", "- a\n- b\n    - c\n        1. d"),
        ("1. a\n1. b", "1. a\n2. b"),
        ("- [ ] a\n- [x] b\n  - [X] c", "[ ] a\n[x] b\n    [x] c"),
        ("| Day | Open |\n|---|---|\n| Mon | **9-17** |", "Day: Open\nMon: 9-17"),
        ("|a|*b*|c|\n|-|-|-|\n|1|`2`|3|", "a: 1, b: 2, c: 3"),
    ],
)
def test_plain_text_has_no_marks(markdown: str, written: str) -> None:
    assert plain(markdown) == written


WORDS = st.sampled_from(
    [
        "2*3*4",
        "snake_case_name",
        "#hashtag",
        "a<b>c</b>",
        "&amp;",
        "https://x.y/a_b_c?d=*e*",
        "jo.smith@x.y",
        "+44 20 7946",
        "$5.00",
        "5 > 3",
        "-5 degrees",
        "(a)",
        "x * not closed",
        "שלום",
        "👩‍👩‍👧",
        "C:\\dir",
    ]
) | st.text(st.characters(categories=["L", "M", "N", "Sc", "So"]), min_size=1)
PLAIN = st.lists(WORDS | st.sampled_from([" ", "\n", "\n\n", "\n  ", ", ", " \n", "\n\n\n\n\n"]))


@given(PLAIN.map(lambda pieces: "".join(f"{p} " if p.strip() else p for p in pieces)))
def test_any_text_without_markdown_stays(text: str) -> None:
    lines = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
    expected = re.sub("\n{4,}", "\n\n\n", lines.lstrip("\n")).rstrip()
    assert whatsapp(text) == plain(text) == expected


PIECES = st.sampled_from(
    [
        *(
            "*",
            "**",
            "***",
            "_",
            "__",
            "~~a",
            "a~~ ",
            "# ",
            "- ",
            "* ",
            "> ",
            "1. ",
            "+ ",
            "- [x] ",
        ),
        *(
            "\n",
            "\n\n",
            "    ",
            " ",
            "a",
            "b c",
            "Ä",
            "字",
            "\\",
            "!",
            "(",
            ")",
            "—",
            ".",
            "\t",
            "---",
        ),
    ]
)


@given(st.lists(PIECES, max_size=40).map("".join))
def test_no_letter_is_lost(text: str) -> None:
    """The box of a task is the only letter that is a mark."""

    def letters(text: str) -> list[str]:
        return [c for c in re.sub(r"\[x\]|[☑◦]", "", text) if c.isalpha()]

    assert letters(whatsapp(text)) == letters(plain(text)) == letters(text)


@given(st.lists(PIECES, max_size=40).map("".join))
def test_plain_text_needs_no_character_that_was_not_there(text: str) -> None:
    """An SMS with one character outside GSM-7 has room for less than half as many."""
    assert {c for c in plain(text) if not c.isascii()} <= set(text)


@given(st.lists(PIECES, max_size=40).map("".join))
def test_plain_text_is_read_as_whatsapps_is(text: str) -> None:
    def bare(text: str) -> str:
        text = re.sub(r"☐|\[ \]", "[]", re.sub(r"☑|\[x\]", "[x]", text))
        return re.sub(r"[*_~]|---|———|[◦-]", "", text)

    assert re.sub(r"\s+", "", bare(plain(text))) == re.sub(r"\s+", "", bare(whatsapp(text)))


MARKUP = PIECES | st.sampled_from(
    [
        "`",
        "```",
        "~~~",
        "[",
        "](",
        "![",
        "<",
        "|",
        "|-|\n",
        "\x00",
        "\ud83d",
        "\r",
        "http://",
        "\\\n",
    ]
)


@given(st.text() | st.lists(MARKUP | st.text(max_size=2), max_size=60).map("".join))
@example("- \\\n")
@example("**[](<>)**")
@example("\ud83d**\udc00**")
def test_nothing_raises(text: str) -> None:
    assert isinstance(whatsapp(text), str)
    assert isinstance(plain(text), str)


@given(st.text(st.characters(categories=["Lu", "Ll"]), min_size=1))
def test_a_bold_word_is_bold(word: str) -> None:
    assert whatsapp(f"say **{word}**!") == f"say *{word}*!"
    assert plain(f"say **{word}**!") == f"say {word}!"


@pytest.mark.parametrize("mark", ["> ", "- ", "1. "])
@pytest.mark.parametrize("depth", range(1, MAX_NESTING + 3))
def test_what_is_nested_deep_is_not_lost(mark: str, depth: int) -> None:
    assert "text" in whatsapp(mark * depth + "text")
    assert "text" in plain(mark * depth + "text")


HOSTILE = [
    *("*", "**a", "*a ", "*_", "_", "~~", "`", "[", "[*", "![", "[a](", "![a](", "](x)", "\\"),
    *("> ", ">", "- ", "- a\n", "> a\n", "1. ", "***a", "a**b c", "**a: **b ", "**a\n"),
    *("[u](u)", "**[u](u)** ", "http://=*a=*", "|", "|a|b|\n|-|-|\n", "```\n", "- - ", "\n", "\t"),
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_text_takes_bounded_time(piece: str) -> None:
    # What grows with the square takes half a minute and more.
    assert _cpu_seconds(piece * (25_000 // len(piece))) < 2.5


@pytest.mark.parametrize(
    "text",
    [
        "*a " * 9_000 + "b*" * 9_000,
        "![" * 8_000 + "](x)" * 8_000,
        "\n".join(" " * (2 * n) + "- a" for n in range(300)),
        "|a" * 300 + "|\n" + "|-" * 300 + "|\n" + "|\n" * 20_000,
    ],
    ids=["emphasis", "images", "lists", "table"],
)
def test_hostile_nesting_takes_bounded_time(text: str) -> None:
    assert _cpu_seconds(text) < 5


def _cpu_seconds(text: str) -> float:
    with spent() as cpu:
        whatsapp(text)
    return cpu.seconds
