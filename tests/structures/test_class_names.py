"""Names of classes that differ only in how they are written."""

from __future__ import annotations

import pytest

from yolo_lite.errors import InputError
from yolo_lite.structures.class_names import alike, describe_matches, match_names, names_in_data, spelling_notes

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


@pytest.mark.parametrize(
    ("of_weights", "of_data", "expected"),
    [
        (("person", "cell phone"), ("Cell_Phone", "PERSON"), ("PERSON", "Cell_Phone")),
        (("person", "cat"), ("dog",), ("person", "cat")),
        (("Person", "person"), ("person",), ("Person", "person")),
        (("person",), ("person", "Person"), ("person",)),
        (("-", "_"), ("_", "+"), ("-", "_")),
        (("-",), ("_",), ("-",)),
        ((), ("person",), ()),
    ],
    ids=["both", "none", "the equal name wins", "and so it does in the data", "equal signs", "signs", "no class"],
)
def test_the_classes_of_weights_get_the_names_of_the_data(
    of_weights: tuple[str, ...], of_data: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert names_in_data(of_weights, of_data) == expected
    assert len(set(expected)) == len(of_weights)
    assert bool(spelling_notes(of_weights, of_data)) == (expected != of_weights)


@pytest.mark.parametrize(
    ("of_weights", "of_data", "message"),
    [
        (
            ("person",),
            ("Person", "PERSON"),
            "the class 'Person' or 'PERSON' of the data could be 'person' of the weights",
        ),
        (
            ("Person", "PERSON"),
            ("person",),
            "the class 'person' of the data could be 'Person' or 'PERSON' of the weights",
        ),
        (("a b", "A B"), ("a-b", "A_B"), "the class 'a-b' or 'A_B' of the data could be 'a b' or 'A B' of the weights"),
    ],
)
def test_an_ambiguous_name_is_refused(of_weights: tuple[str, ...], of_data: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        names_in_data(of_weights, of_data)


def test_names_that_are_spelled_alike_need_no_note() -> None:
    note = "2 classes are spelled differently in data and weights: PERSON (known as person), T_Shirt (known as t-shirt)"
    assert spelling_notes(("person", "cat", "t-shirt"), ("T_Shirt", "PERSON", "cat")) == [note]


def test_a_message_names_the_two_parts() -> None:
    with pytest.raises(InputError) as caught:
        names_in_data(("cat", "CAT"), ("Cat",), parts=("val", "train"))
    assert str(caught.value) == (
        "the class 'Cat' of val could be 'cat' or 'CAT' of train; give the classes of val the names that they have in train"
    )
    note = "1 class is spelled differently in val and train: Cat (known as cat)"
    assert spelling_notes(("cat",), ("Cat",), parts=("val", "train")) == [note]


def test_names_alike_are_found_in_their_order() -> None:
    assert alike(("Person", "fox", "T_Shirt", "person"), KNOWN) == ["Person", "T_Shirt", "person"]
    assert alike((), KNOWN) == alike(KNOWN, ()) == []
