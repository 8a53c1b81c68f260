"""Turns of phrase: numbers with their nouns, names that a terminal would obey, reasons."""

from __future__ import annotations

import unicodedata

import pytest

from yolo_lite.errors import are, counted, is_text, one_line, printable, reason, short, shortened, some, suggest


@pytest.mark.parametrize(("number", "text"), [(0, "0 epochs"), (1, "1 epoch"), (2, "2 epochs"), (1234, "1,234 epochs")])
def test_a_noun_agrees_with_its_number(number: int, text: str) -> None:
    assert counted(number, "epoch") == text


def test_an_irregular_plural_is_given() -> None:
    assert [counted(n, "box", plural="boxes") for n in (1, 2)] == ["1 box", "2 boxes"]


@pytest.mark.parametrize("text", ["cat", "Größe", "猫", "🐱", "a\nb\tc", "e\u0301"])
def test_what_a_terminal_shows_is_left_alone(text: str) -> None:
    assert printable(text) == text


def test_nothing_that_a_terminal_obeys_is_left() -> None:
    """Every character that Unicode calls a control, a surrogate or a mark of direction."""
    marks = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
    for code in [*range(0x3000), *range(0xD800, 0xE000)]:
        character = chr(code)
        obeyed = unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t"
        obeyed |= unicodedata.bidirectional(character) in marks
        if obeyed:
            assert printable(character).isascii(), hex(code)
            assert printable(character).startswith("\\"), hex(code)


def test_a_reason_is_the_systems_own_words() -> None:
    assert reason(PermissionError(13, "Permission denied", "/some/file")) == "Permission denied"
    assert reason(OSError("image file is truncated\n(3 bytes)")) == "image file is truncated (3 bytes)"
    assert reason(ValueError()) == "ValueError"


def test_what_a_value_is_fits_into_a_line_whatever_it_is() -> None:
    deep: object = 1
    for _ in range(100_000):
        deep = [deep]
    endless: list[object] = []
    endless.append(endless)
    odd = (
        deep,
        endless,
        {"a": deep},
        10**5000,
        "x" * 10**6,
        list(range(10**5)),
        {"k" * 10**5: 1},
        object(),
        "a\nb\x1b",
    )
    for value in odd:
        assert len(short(value)) <= 200
        assert short(value).isprintable()


@pytest.mark.parametrize("value", [None, True, -1.5, 7, "a b", [1, 2], {"a": [1]}, ("x",)])
def test_a_small_value_is_as_python_writes_it(value: object) -> None:
    assert short(value) == repr(value)


def test_long_names_are_cut_where_several_are_listed() -> None:
    assert some(["x" * 1000, "b"]) == "x" * 77 + "..., b"
    assert len(suggest("x" * 10**6, ["x" * 10**6])) < 200 or "known" in suggest("x" * 10**6, ["x" * 10**6])


def test_text_that_no_file_can_hold() -> None:
    assert is_text("Kätzchen")
    assert is_text("caf\udce9")  # a folder's name that is not UTF-8, as Python reads it
    assert not is_text("\ud800")


def test_a_name_stays_on_its_line() -> None:
    assert one_line("cat\nerror: forged\x1b[2J") == "cat\\nerror: forged\\x1b[2J"


def test_a_verb_agrees_with_its_number() -> None:
    assert [are(number) for number in (0, 1, 2)] == ["are", "is", "are"]


@pytest.mark.parametrize(
    ("text", "width", "cut"),
    [
        ("traffic light", 13, "traffic light"),
        ("traffic light", 9, "traffic\u2026"),
        ("\u732b\u732b\u732b", 5, "\u732b\u732b\u2026"),
    ],
)
def test_a_text_is_cut_to_its_width_and_never_after_a_blank(text: str, width: int, cut: str) -> None:
    """A Chinese letter takes two columns of a terminal."""
    assert shortened(text, width=width) == cut
