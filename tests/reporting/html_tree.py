"""Reads HTML into a tree, and refuses what is not well formed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"br", "col", "hr", "img", "meta"}


@dataclass
class Node:
    """An element: its attributes and what is inside, elements and texts."""

    tag: str
    attributes: dict[str, str]
    children: list[Node | str] = field(default_factory=list)

    def elements(self) -> Iterator[Node]:
        """Yield the elements inside, at any depth, as they stand in the page."""
        for child in self.children:
            if isinstance(child, Node):
                yield child
                yield from child.elements()

    def all(self, *tags: str) -> list[Node]:
        return [node for node in self.elements() if node.tag in tags]

    def classed(self, name: str) -> list[Node]:
        return [node for node in self.elements() if name in node.attributes.get("class", "").split()]

    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text() for child in self.children)

    def by_id(self, name: str) -> Node:
        return next(node for node in self.elements() if node.attributes.get("id") == name)

    def rows(self) -> list[list[str]]:
        """Return the texts of a table, row by row."""
        return [
            [cell.text() for cell in row.children if isinstance(cell, Node) and cell.tag in ("td", "th")]
            for row in self.all("tr")
        ]


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open = [Node("", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute of {tag} is given twice"
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def parse(page: str) -> Node:
    """Return the root of a page."""
    builder = _Builder()
    builder.feed(page)
    builder.close()
    assert len(builder.open) == 1, f"{builder.open[-1].tag} is not closed"
    return builder.open[0]
