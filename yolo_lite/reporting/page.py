"""The page of a report: one HTML file without a script, which asks for nothing from anywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from yolo_lite.errors import InputError
from yolo_lite.reporting.images import keep_images
from yolo_lite.reporting.markup import Html, element, join, raw
from yolo_lite.reporting.panels.calibration import calibration_section
from yolo_lite.reporting.panels.classes import classes_section
from yolo_lite.reporting.panels.comparison import comparison_section
from yolo_lite.reporting.panels.confusion import confusion_section
from yolo_lite.reporting.panels.curves import curves_section
from yolo_lite.reporting.panels.errors import errors_section
from yolo_lite.reporting.panels.headline import headline_section
from yolo_lite.reporting.panels.notes import notes_section
from yolo_lite.reporting.panels.robustness import robustness_section
from yolo_lite.reporting.panels.sizes import sizes_section
from yolo_lite.reporting.panels.worst import worst_section
from yolo_lite.reporting.section import Section
from yolo_lite.reporting.values import counted

FORMAT = "yolo_lite report"
VERSION = 1
TASKS = {"detect": "Evaluation of a detector", "classify": "Evaluation of a classifier"}
PANELS: tuple[Callable[[Mapping[str, Any]], Section | None], ...] = (
    headline_section,
    classes_section,
    errors_section,
    curves_section,
    confusion_section,
    sizes_section,
    calibration_section,
    worst_section,
    robustness_section,
    comparison_section,
    notes_section,
)
LIMIT = 5_000_000  # bytes of a page
_SLACK = 20_000  # for the sentences that stand in place of images
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def render_page(report: Mapping[str, Any]) -> str:
    """Return the page of a report as one HTML text.

    Args:
        report: what report.json holds. What is null or absent is left out or reads as "not measured"; unknown entries
            are ignored.

    Returns:
        The page, of at most 5 MB: images that do not fit are left out, the last first, and a note says how many.

    Raises:
        InputError: if it is not such a report, or of a newer version.

    Example:
        >>> page = render_page({"format": "yolo_lite report", "version": 1, "task": "detect", "title": "raccoons"})
        >>> page.startswith("<!doctype html>"), "<h1>raccoons</h1>" in page
        (True, True)
    """
    _check(report)
    page = _page(report)
    if _size(page) <= LIMIT:
        return page
    room = LIMIT - _size(_page(keep_images(report, room=0)[0])) - _SLACK
    kept, left_out = keep_images(report, room=room)
    note = f"{counted(left_out, 'image')} left out, so that the page stays below {LIMIT / 1e6:g} MB."
    return _page({**kept, "notes": [*(report.get("notes") or []), note]})


def _size(page: str) -> int:
    return len(page.encode())


def _page(report: Mapping[str, Any]) -> str:
    sections = [drawn for panel in PANELS if (drawn := panel(report)) is not None]
    title = str(report.get("title") or TASKS[report["task"]])
    body = element(
        "body",
        element("a", "Skip to the report", href="#report", class_="skip"),
        _header(report, title),
        element("div", _contents(sections), element("main", map(_section, sections), id="report"), class_="layout"),
        element("footer", f"Drawn from report.json, version {report.get('version', VERSION)} of its format."),
    )
    page = raw("<!doctype html>\n") + element("html", _head(title), body, lang="en") + "\n"
    return page.encode(errors="replace").decode()  # file names may hold bytes that are no text


def _check(report: Mapping[str, Any]) -> None:
    if report.get("format") != FORMAT:
        raise InputError(
            f"not a report: format must be {FORMAT!r}, got {report.get('format')!r}; run eval --report again"
        )
    if report.get("task") not in TASKS:
        raise InputError(f"task of the report must be {' or '.join(TASKS)}, got {report.get('task')!r}")
    version = report.get("version", VERSION)
    if version != VERSION:
        raise InputError(f"version of the report must be {VERSION}, got {version!r}; use the yolo_lite that wrote it")


def _head(title: str) -> Html:
    style = files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", raw(style)),
    )


def _header(report: Mapping[str, Any], title: str) -> Html:
    data = report.get("data") or {}
    parts = [TASKS[report["task"]]]
    parts += [
        counted(data[key], noun, plural=plural)
        for key, noun, plural in (("images", "image", ""), ("objects", "object", ""), ("classes", "class", "classes"))
        if data.get(key) is not None
    ]
    line = element("p", join(" · ".join(parts)), class_="about")
    return element("header", line, element("h1", title), class_="top")


def _contents(sections: Sequence[Section]) -> Html:
    links = [element("li", element("a", each.title, href=f"#{each.key}")) for each in sections]
    return element("nav", element("p", "Contents"), element("ol", links), aria_label="Contents")


def _section(each: Section) -> Html:
    title = element("h2", each.title, id=f"{each.key}-title")
    return element("section", title, each.body, id=each.key, aria_labelledby=f"{each.key}-title")
