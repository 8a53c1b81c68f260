"""Names of classes that differ only in how they are written."""

from __future__ import annotations

import pytest

from yolo_lite.checkpoints.names import describe_matches, match_names

KNOWN = ("person", "cell phone", "t-shirt", "Straße")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("person", "person"),
        ("Person", "person"),
        ("PERSON", "person"),
        ("cell_phone", "cell phone"),
        ("Cell-Phone", "cell phone"),
        (" cell  phone ", "cell phone"),
        ("T_Shirt", "t-shirt"),
        ("STRASSE", "Straße"),
    ],
)
def test_a_name_is_known_however_it_is_written(name: str, expected: str) -> None:
    assert match_names([name], KNOWN) == {name: expected}


@pytest.mark.parametrize("name", ["persons", "cellphone", "man", ""])
def test_other_words_are_not_known(name: str) -> None:
    assert match_names([name], KNOWN) == {}


def test_a_known_class_is_matched_once_and_by_its_own_name_first() -> None:
    assert match_names(["Person", "person"], KNOWN) == {"person": "person"}
    assert match_names(["Person", "PERSON"], KNOWN) == {"Person": "person"}
    assert match_names(["cat", "CAT", "Cat"], ["Cat", "cat"]) == {"cat": "cat", "Cat": "Cat"}


def test_both_spellings_are_reported() -> None:
    assert describe_matches(match_names(["t-shirt", "Person"], KNOWN)) == ["t-shirt", "Person (known as person)"]
