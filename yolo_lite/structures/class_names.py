"""Match class names that are spelled differently: those of a data set and of weights, or those of two splits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from yolo_lite.errors import InputError, counted, some


def match_names(class_names: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """Return the known name of each class that has one; case, underscores, hyphens and spaces do not matter.

    Equal names are matched first, then the others in their order. A known name is matched at most once: two classes that
    start from the same one would both be reported for every object of either.

    Args:
        class_names: of the data set.
        known: of the checkpoint.

    Returns:
        {class name: known name}, in the order of the classes.

    Example:
        >>> match_names(["Person", "cell_phone", "fox"], ["person", "cell phone", "cat"])
        {'Person': 'person', 'cell_phone': 'cell phone'}
    """
    matches = {name: name for name in class_names if name in known}
    free: dict[str, str] = {}
    for name in known:
        if name not in matches:
            free.setdefault(_plain(name), name)
    for name in class_names:
        if name not in matches and _plain(name) in free:
            matches[name] = free.pop(_plain(name))
    return {name: matches[name] for name in class_names if name in matches}


_PARTS = ("the data", "the weights")


def names_in_data(
    class_names: Sequence[str], data_names: Sequence[str], *, parts: tuple[str, str] = _PARTS
) -> tuple[str, ...]:
    """Return the class names of some weights as a data set spells them; a class that the data lacks keeps its name.

    Equal names belong together. Of the other names, those belong together that differ only in case, underscores, hyphens
    and spaces.

    Args:
        class_names: of the weights, by label.
        data_names: of the data set to score.
        parts: what the message calls the data set, and the weights.

    Returns:
        A name for each class of the weights, in their order.

    Raises:
        InputError: if such a name could belong to several.

    Example:
        >>> names_in_data(["person", "cell phone", "cat"], ["fox", "cell_phone", "Person"])
        ('Person', 'cell_phone', 'cat')
    """
    of_weights = _by_plain_name(name for name in class_names if name not in data_names)
    of_data = _by_plain_name(name for name in data_names if name not in class_names)
    spelled: dict[str, str] = {}
    for plain, names in of_weights.items():
        others = of_data.get(plain, [])
        if others and len(names) + len(others) > 2:
            raise InputError(
                f"the class {' or '.join(map(repr, others))} of {parts[0]} could be {' or '.join(map(repr, names))} of "
                f"{parts[1]}; give the classes of {parts[0]} the names that they have in {parts[1]}"
            )
        spelled |= dict(zip(names, others))
    return tuple(spelled.get(name, name) for name in class_names)


def spelling_notes(
    class_names: Sequence[str], data_names: Sequence[str], *, parts: tuple[str, str] = _PARTS
) -> list[str]:
    """Return a note about the classes that the data spells differently from the weights; an empty list if there are none.

    The arguments and errors are those of `names_in_data`.

    Example:
        >>> spelling_notes(["person", "cat"], ["Person", "cat"])
        ['1 class is spelled differently in data and weights: Person (known as person)']
    """
    pairs = zip(names_in_data(class_names, data_names, parts=parts), class_names)
    different = {name: known for name, known in pairs if name != known}
    if not different:
        return []
    what = counted(len(different), "class is", plural="classes are")
    where = " and ".join(part.removeprefix("the ") for part in parts)
    return [f"{what} spelled differently in {where}: {some(describe_matches(different))}"]


def alike(names: Iterable[str], others: Iterable[str]) -> list[str]:
    """Return those names that differ from one of the others in nothing but case, underscores, hyphens and spaces.

    Example:
        >>> alike(["Person", "person", "fox"], ["person"])
        ['Person', 'person']
    """
    plain = set(map(_plain, others))
    return [name for name in names if _plain(name) in plain]


def describe_matches(matches: dict[str, str]) -> list[str]:
    """Return the matched classes in words, with the known name where it is spelled differently.

    Example:
        >>> describe_matches({"cat": "cat", "Person": "person"})
        ['cat', 'Person (known as person)']
    """
    return [name if name == source else f"{name} (known as {source})" for name, source in matches.items()]


def _by_plain_name(names: Iterable[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_plain(name), []).append(name)
    return groups


def _plain(name: str) -> str:
    plain = " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
    return plain or name  # of a class that is a sign, such as "-"
