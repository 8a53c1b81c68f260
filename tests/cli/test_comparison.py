"""A comparison as lines: columns stay below each other, whatever is unknown."""

from __future__ import annotations

from typing import Any

import pytest

from yolo_lite.cli.comparison import print_comparison


def _row(name: str, *, low: float | None = None, p: float | None = None, value: float | None = 0.5) -> dict[str, Any]:
    difference = None if value is None else 0.0
    return {"name": name, "a": value, "b": value, "difference": difference, "low": low, "high": low, "p": p}


def test_unknown_numbers_are_dashes_in_their_columns(capsys: pytest.CaptureFixture[str]) -> None:
    classes = [_row("cat", low=-0.1, p=0.5), _row("seen once", p=0.25), _row("never there", value=None)]
    section = {"a": "old", "b": "new", "images": 9, "resamples": 100, "overall": [_row("AP", low=0.0, p=1.0)]}
    print_comparison({**section, "classes": classes})
    lines = capsys.readouterr().out.splitlines()
    start = next(place for place, line in enumerate(lines) if "95% interval" in line)
    table = [lines[start], lines[start + 1], *lines[start + 3 : start + 6]]
    assert len({len(line) for line in table}) == 1
    assert table[3].split() == ["seen", "once", "0.500", "0.500", "+0.000", "-", "0.250"]
    assert table[4].split() == ["never", "there", "-", "-", "-", "-", "-"]
    assert "p <= 0.05 in 0 of 2 measured classes; chance alone gives about 0.1" in lines


def test_a_long_name_and_a_wide_one_leave_the_columns_in_place(capsys: pytest.CaptureFixture[str]) -> None:
    """Two columns of a terminal go to each Chinese letter."""
    names = ["x" * 300, "\u732b" * 3, "two\nlines"]
    section = {"a": "old", "b": "new", "images": 1, "resamples": 1, "overall": [_row("AP", low=0.0, p=1.0)]}
    print_comparison({**section, "classes": [_row(name, low=0.0, p=1.0) for name in names]})
    out = capsys.readouterr().out
    assert "A: old, B: new, 1 image, 1 resample\n" in out
    lines = [line for line in out.splitlines() if "0.500" in line]
    # 40 letters, two blanks and one more, because numbers take six letters.
    assert [line.index("0.500") + line.count("\u732b") for line in lines] == [43] * 4
    assert lines[3].startswith("two\\nlines ")


def test_chance_is_not_mentioned_where_nothing_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    section = {"a": "old", "b": "new", "images": 5, "resamples": 50, "overall": [_row("AP", value=None)]}
    print_comparison({**section, "classes": [_row("cat", value=None), _row("dog", value=None)]})
    out = capsys.readouterr().out
    assert "chance" not in out
    assert "the two cannot be compared" in out


@pytest.mark.parametrize(("resamples", "few"), [(1, "1 resample is"), (99, "99 resamples are"), (100, "")])
def test_few_resamples_give_no_verdict(resamples: int, few: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 20 swaps none may reach the difference by luck; p is then 1 in 21."""
    section = {"a": "old", "b": "new", "images": 9, "resamples": resamples, "overall": [_row("AP", low=0.1, p=1 / 21)]}
    section["overall"][0]["difference"] = 0.2
    print_comparison({**section, "classes": [_row("cat", p=1 / 21), _row("dog", p=0.5)]})
    out = capsys.readouterr().out
    assert ("B is better in AP (p 0.048)" in out) == (not few)
    assert ("chance alone" in out) == (not few)
    assert (f"{few} too few to say whether the difference is real; use at least 100" in out) == bool(few)
