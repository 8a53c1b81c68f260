"""Turns of phrase: numbers with their nouns, names that a terminal would obey, reasons."""

from __future__ import annotations

import unicodedata

import pytest

from yolo_lite.errors import are, counted, one_line, printable, reason


@pytest.mark.parametrize(("number", "text"), [(0, "0 epochs"), (1, "1 epoch"), (2, "2 epochs"), (1234, "1,234 epochs")])
def test_a_noun_agrees_with_its_number(number: int, text: str) -> None:
    assert counted(number, "epoch") == text


def test_an_irregular_plural_is_given() -> None:
    assert [counted(n, "box", "boxes") for n in (1, 2)] == ["1 box", "2 boxes"]


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


def test_a_name_stays_on_its_line() -> None:
    assert one_line("cat\nerror: forged\x1b[2J") == "cat\\nerror: forged\\x1b[2J"


def test_a_verb_agrees_with_its_number() -> None:
    assert [are(number) for number in (0, 1, 2)] == ["are", "is", "are"]
