"""Collect faults in annotations: reading stops at the first, unless a check collects them all."""

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
    kind: str = ""  # faults of one kind differ only in place and numbers
    of: int = 0  # number of entries of its split that could have this fault; 0 if there is only one
    also_in: str = ""  # another split that has the image too

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


class Finding(NamedTuple):
    """What a reader knows of a fault besides its text."""

    where: str  # the beginning of the text: file and line, object, annotation or image; empty if there is no such place
    harms: bool


Findings = dict[str, Finding]  # by text, one line that names the place and the fault

_collected: ContextVar[Findings | None] = ContextVar("collected", default=None)


def report(error: InputError, where: str = "") -> None:
    """Raise an error, or, while faults are being collected, record it so that the reader can continue.

    Args:
        error: an error whose text names the place.
        where: the place, as the text begins; empty if the fault is one of a whole file.

    Example:
        >>> report(InputError("a.txt: line 1 has class 7"), "a.txt: line 1")
        Traceback (most recent call last):
        ...
        yolo_lite.errors.InputError: a.txt: line 1 has class 7
    """
    findings = _collected.get()
    if findings is None:
        raise error
    findings[str(error)] = Finding(where, harms=True)


def mention(text: str, where: str) -> None:
    """Record a fault that does not stop reading; does nothing unless faults are being collected.

    Example:
        >>> with collecting() as findings:
        ...     mention("a.txt: line 1 has a box without area", "a.txt: line 1")
        >>> findings["a.txt: line 1 has a box without area"].harms
        False
    """
    findings = _collected.get()
    if findings is not None:
        findings.setdefault(text, Finding(where, harms=False))


@contextmanager
def collecting() -> Iterator[Findings]:
    """Collect the faults that readers report, each once, instead of stopping at the first.

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
    """Return a message for a set whose boxes are all crowd regions, with advice.

    Example:
        >>> only_crowd(2).split(" (")[0]
        '2 boxes, all of them crowd regions'
    """
    return (
        f"{counted(count, 'box', plural='boxes')}, all of them crowd regions (COCO's iscrowd: 1, PASCAL VOC's difficult), "
        "which training ignores; set iscrowd to 0 for boxes around single objects, or pass --difficult to use difficult "
        "objects"
    )
