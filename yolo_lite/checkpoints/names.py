"""Match the class names of a data set with those that a checkpoint knows."""

from __future__ import annotations

from collections.abc import Sequence


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


def describe_matches(matches: dict[str, str]) -> list[str]:
    """Return the matched classes in words, with the known name where it is spelled differently.

    Example:
        >>> describe_matches({"cat": "cat", "Person": "person"})
        ['cat', 'Person (known as person)']
    """
    return [name if name == source else f"{name} (known as {source})" for name, source in matches.items()]


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
