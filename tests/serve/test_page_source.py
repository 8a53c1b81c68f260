"""The text of the page: what its Content-Security-Policy asks of it, and nothing from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib import resources

PAGE = resources.files("yolo_lite.serve").joinpath("page.html").read_text(encoding="utf-8")


class Tags(HTMLParser):
    """Every start tag with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.all: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs)))


TAGS = Tags(PAGE).all


def test_one_style_and_one_script_without_attributes() -> None:
    inline = [(tag, attributes) for tag, attributes in TAGS if tag in ("style", "script")]
    assert inline == [("style", {}), ("script", {})]
    assert len(re.findall(r"</?(?:style|script)", PAGE)) == 4  # none hides in a string of the script


def test_no_attribute_that_the_policy_forbids() -> None:
    names = {name for _, attributes in TAGS for name in attributes}
    assert len(names) > 30
    assert [name for name in names if name == "style" or name.startswith("on")] == []


def test_no_address_of_another_host() -> None:
    assert set(re.findall(r"\w+://[\w./-]+", PAGE)) == {"http://www.w3.org/2000/svg"}
    links = [attributes.get(name) or "" for _, attributes in TAGS for name in ("href", "src") if name in attributes]
    assert len(links) > 8
    assert [
        link for link in links if not link.startswith(("#", "data:image/svg+xml,")) and link != "openapi.json"
    ] == []


def test_no_code_from_text_and_nothing_printed() -> None:
    assert (
        re.findall(
            r"\beval\(|new Function|innerHTML|document\.write|console\.|localStorage|sessionStorage|\bcookie", PAGE
        )
        == []
    )


def test_every_control_has_a_name() -> None:
    labelled = set(re.findall(r'<label for="([\w-]+)"', PAGE)) | set(
        re.findall(r"<label[^>]*>(?:(?!</label>).)*?\bid=\"([\w-]+)\"", PAGE)
    )
    fields = [attributes for tag, attributes in TAGS if tag in ("input", "select")]
    assert len(fields) == 7
    assert [field["id"] for field in fields if field["id"] not in labelled and "aria-label" not in field] == []
