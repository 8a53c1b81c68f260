"""A comparison of two detectors or classifiers, as lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yolo_lite.cli.screen import name_column
from yolo_lite.errors import are, counted
from yolo_lite.structures.verdicts import LEAST_RESAMPLES, SIGNIFICANT


def print_comparison(section: Mapping[str, Any]) -> None:
    """Print the section "comparison" of report.json: overall numbers and classes, and what to make of them."""
    print()
    print(
        f"A: {section['a']}, B: {section['b']}, {counted(section['images'], 'image')}, {counted(section['resamples'], 'resample')}"
    )
    rows = [*section["overall"], *section["classes"]]
    title, *names = name_column(["", *(each["name"] for each in rows)])
    overall = len(section["overall"])
    print(f"{title}       A       B   B - A  95% interval          p")
    for name, each in zip(names[:overall], rows):
        print(_line(name, each))
    if len(section["classes"]) > 1:
        print()
        for name, each in zip(names[overall:], section["classes"]):
            print(_line(name, each))
        known = [each["p"] for each in section["classes"] if each["p"] is not None]
        clear = sum(p <= SIGNIFICANT for p in known)
        if known and section["resamples"] >= LEAST_RESAMPLES:
            print(
                f"p <= {SIGNIFICANT:g} in {clear} of {counted(len(known), 'measured class', plural='measured classes')}; "
                f"chance alone gives about {SIGNIFICANT * len(known):.1f}"
            )
    print()
    print(_verdict(section["overall"][0], section["resamples"]))


def _line(name: str, each: Mapping[str, Any]) -> str:
    numbers = "  ".join("     -" if each[key] is None else f"{each[key]:6.3f}" for key in ("a", "b"))
    difference = "-" if each["difference"] is None else f"{each['difference']:+.3f}"
    ends = "-" if each["low"] is None else f"{each['low']:+.3f} to {each['high']:+.3f}"
    p = "-" if each["p"] is None else f"{each['p']:.3f}"
    return f"{name}  {numbers}  {difference:>6}  {ends:<16}  {p:>5}"


def _verdict(first: Mapping[str, Any], resamples: int) -> str:
    if first["p"] is None or first["difference"] is None:
        return "the two cannot be compared"
    if resamples < LEAST_RESAMPLES:
        few = f"{counted(resamples, 'resample')} {are(resamples)} too few"
        return f"{few} to say whether the difference is real; use at least {LEAST_RESAMPLES}"
    if first["p"] > SIGNIFICANT:
        return f"no clear difference in {first['name']} (p {first['p']:.3f}): the choice of images could explain it"
    better = "B" if first["difference"] > 0 else "A"
    return f"{better} is better in {first['name']} (p {first['p']:.3f})"
