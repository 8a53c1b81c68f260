"""The last section: what a reader of the numbers should know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yolo_lite.reporting.markup import element
from yolo_lite.reporting.section import Section, section


def notes_section(report: Mapping[str, Any]) -> Section | None:
    """Return the notes of a report as a list.

    Example:
        >>> notes_section({"notes": ["a < b"]}).body
        '<ul class="notes"><li>a &lt; b</li></ul>'
        >>> notes_section({"notes": []}) is None
        True
    """
    notes = [str(note) for note in report.get("notes") or [] if note]
    if not notes:
        return None
    return section("notes", "Notes", element("ul", [element("li", note) for note in notes], class_="notes"))
