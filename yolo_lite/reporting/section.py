"""A section of the page."""

from __future__ import annotations

from dataclasses import dataclass

from yolo_lite.reporting.markup import Content, Html, element, join


@dataclass(frozen=True)
class Section:
    """A section: the id that the table of contents leads to, its title, and what it holds."""

    key: str
    title: str
    body: Html


def section(key: str, title: str, *content: Content) -> Section:
    """Return a section; whatever is no HTML in its content is escaped.

    Example:
        >>> section("notes", "Notes", "a < b").body
        'a &lt; b'
    """
    return Section(key, title, join(*content))


def finding(*content: Content) -> Html:
    """Return the sentence that a section begins with: what its numbers say.

    Example:
        >>> finding("No AP is lost.")
        '<p class="finding">No AP is lost.</p>'
    """
    return element("p", *content, class_="finding")


def paragraph(*content: Content) -> Html:
    """Return a paragraph.

    Example:
        >>> paragraph("1 < 2")
        '<p>1 &lt; 2</p>'
    """
    return element("p", *content)


def heading(text: str) -> Html:
    """Return the heading of a part of a section.

    Example:
        >>> heading("Settings")
        '<h3>Settings</h3>'
    """
    return element("h3", text)


def pair(*figures: Content) -> Html:
    """Return figures that stand beside each other where the screen is wide enough.

    Example:
        >>> pair("a", "b")
        '<div class="pair">ab</div>'
    """
    return element("div", *figures, class_="pair")
