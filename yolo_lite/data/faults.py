"""Faults in annotations: reading stops at the first, unless a check collects them all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from yolo_lite.errors import InputError, counted


class Fault(NamedTuple):
    """One thing that is wrong with a data set."""

    split: str
    where: str  # file and line, object, annotation or image
    what: str
    harms: bool  # training would stop at it, or learn something wrong
    kind: str = ""  # faults of one kind differ in nothing but the place and the numbers
    of: int = 0  # how many entries of its split could have this fault; 0 where there is only one
    also_in: str = ""  # another split that has the image too

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


class Finding(NamedTuple):
    """What is known of a fault that a reader met, besides its text."""

    where: str  # with which the text begins: file and line, object, annotation or image; empty where there is no such place
    harms: bool


Findings = dict[str, Finding]  # by what is wrong, in a line that names the place

_collected: ContextVar[Findings | None] = ContextVar("collected", default=None)


def report(error: InputError, where: str = "") -> None:
    """Raise an error, unless faults are being collected: then keep it, so that the reader goes on with the next entry.

    Args:
        error: which names the place in its text.
        where: the place, as the text has it; empty where the fault is one of a whole file.
    """
    findings = _collected.get()
    if findings is None:
        raise error
    findings[str(error)] = Finding(where, harms=True)


def mention(text: str, where: str) -> None:
    """Keep a fault at a place that does not stop reading, where faults are being collected."""
    findings = _collected.get()
    if findings is not None:
        findings.setdefault(text, Finding(where, harms=False))


@contextmanager
def collecting() -> Iterator[Findings]:
    """Collect what readers report, each fault once, instead of stopping at the first.

    Example:
        >>> with collecting() as findings:
        ...     report(InputError("a.txt: line 1 has class 7"))
        ...     report(InputError("a.txt: line 2 has class 8"))
        >>> list(findings)
        ['a.txt: line 1 has class 7', 'a.txt: line 2 has class 8']
    """
    findings: Findings = {}
    token = _collected.set(findings)
    try:
        yield findings
    finally:
        _collected.reset(token)


def only_crowd(count: int) -> str:
    """Say that a set has so many boxes and none to learn from, and what to do."""
    return (
        f"{counted(count, 'box', plural='boxes')}, every one a crowd region (COCO's iscrowd: 1, PASCAL VOC's difficult) and "
        "so no target of training; write iscrowd 0 where a box holds a single object, or take difficult objects with "
        "--difficult"
    )
