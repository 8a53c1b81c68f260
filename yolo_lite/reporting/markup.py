"""HTML that is escaped where it is put together: text stays text, and only `Html` goes in as it is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from typing import Union

_LONG = 16  # letters; longer names may be cut, and show themselves in full when they are pointed at
_VOID = frozenset({"br", "col", "hr", "img", "meta"})
_IMAGE = re.compile(r"data:image/(?:jpeg|png|webp|gif);base64,[A-Za-z0-9+/]+={0,2}")


class Html(str):
    """Text that is HTML already. Only `element`, `join` and `raw` make it."""

    __slots__ = ()


Content = Union[str, int, None, Iterable["Content"]]  # noqa: UP007 (a name inside its own definition)


def raw(text: str) -> Html:
    """Return text of this package, such as a style sheet, as HTML without escaping it.

    Example:
        >>> raw("<!doctype html>")
        '<!doctype html>'
    """
    return Html(text)


def join(*content: Content) -> Html:
    """Return contents one after the other; whatever is not `Html` is escaped, and None is left out.

    Example:
        >>> join("1 < 2", element("br"), ["a", "b"], None)
        '1 &lt; 2<br>ab'
    """
    return Html("".join(_pieces(content)))


def element(tag: str, *content: Content, **attributes: str | float | bool | None) -> Html:
    """Return an element with its contents.

    Args:
        tag: name of the element.
        content: what is inside: text, `Html`, or lists of them.
        attributes: by name. An underscore becomes a hyphen, and one at the end is dropped (`class_`).
            None and False leave an attribute out; True writes its name alone.

    Example:
        >>> element("td", "<b>", class_="name", colspan=2, hidden=False)
        '<td class="name" colspan="2">&lt;b&gt;</td>'
    """
    opening = "".join(_attribute(name, value) for name, value in attributes.items())
    if tag in _VOID:
        return Html(f"<{tag}{opening}>")
    return Html(f"<{tag}{opening}>{join(*content)}</{tag}>")


def fold(summary: Content, *content: Content, is_open: bool = False) -> Html:
    """Return contents that the reader unfolds.

    Example:
        >>> fold("numbers", "1 2 3")
        '<details><summary>numbers</summary><div class="fold">1 2 3</div></details>'
    """
    inner = element("div", *content, class_="fold")
    return element("details", element("summary", summary), inner, open=is_open)


def name_text(name: object) -> Html:
    """Return a name from the data, such as that of a class, which may be written from right to left.

    Example:
        >>> name_text("a < b")
        '<bdi>a &lt; b</bdi>'
    """
    text = "\N{EN DASH}" if name is None else str(name)
    return element("bdi", text, title=text if len(text) > _LONG else None)


def image(source: object, *, text: str) -> Html:
    """Return an image that is part of the page, or a line of text where the source is no image in base64.

    Args:
        source: "data:image/jpeg;base64,..."; png, webp and gif do as well.
        text: replaces the image for those who cannot see it.

    Example:
        >>> image("https://example.org/a.png", text="a cat")
        '<p class="no-image">The image is not included: a cat</p>'
    """
    if isinstance(source, str) and _IMAGE.fullmatch(source):
        return element("img", src=source, alt=text)
    return element("p", f"The image is not included: {text}", class_="no-image")


def _pieces(content: Content) -> Iterable[str]:
    if content is None:
        return
    if isinstance(content, str | int):
        yield content if isinstance(content, Html) else escape(str(content))
        return
    for piece in content:
        yield from _pieces(piece)


def _attribute(name: str, value: str | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
