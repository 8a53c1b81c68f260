"""The image in the body of a request: the body itself, or one field of a form, taken apart while it arrives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from yolo_lite.errors import one_line, short
from yolo_lite.serve.limits import RefusedError
from yolo_lite.serve.parameters import LONGEST

FIELD = "image"
_MOST_HEADERS = 8_192  # bytes of the headers of all fields
_FORM = "multipart/form-data"
_RAW = (
    "",
    "application/octet-stream",
    "binary/octet-stream",
    "application/x-www-form-urlencoded",
)  # the last is curl's


@dataclass(frozen=True)
class Body:
    """The bytes of an image, and the file name that came with them."""

    content: bytes
    name: str = ""


class Collector(Protocol):
    """What the parts of a body are handed to."""

    def feed(self, chunk: bytes) -> None:
        """Take the next part; raise RefusedError if it makes no sense."""

    def finish(self) -> Body:
        """Return the image; raise RefusedError if there is none."""


def collector(content_type: str) -> Collector:
    """Return what collects a body of a content type.

    Raises:
        RefusedError: if the type is not accepted (415), or the boundary of a form is missing (400).

    Example:
        >>> raw = collector("image/jpeg")
        >>> raw.feed(b"abc")
        >>> raw.finish().content
        b'abc'
        >>> collector("text/html")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        yolo_lite.serve.limits.RefusedError: A body of the type 'text/html' is not accepted; ...
    """
    kind, options = parse_options_header(content_type)
    name = kind.decode("latin-1").lower()
    if name == _FORM:
        return _Form(options.get(b"boundary", b""))
    if name in _RAW or name.startswith("image/"):
        return _Raw()
    raise RefusedError(
        415,
        f"A body of the type {short(name)} is not accepted; send the bytes of an image (image/jpeg, "
        f"application/octet-stream), or {_FORM} with a field {FIELD}.",
    )


class _Raw:
    """A body that is the image."""

    def __init__(self) -> None:
        self._content = bytearray()

    def feed(self, chunk: bytes) -> None:
        self._content += chunk

    def finish(self) -> Body:
        if not self._content:
            raise RefusedError(400, "The body is empty; send the bytes of an image.")
        return Body(bytes(self._content))


class _Form:
    """A form with one field, which is the image."""

    def __init__(self, boundary: bytes) -> None:
        if not boundary:
            raise RefusedError(400, f"A body of the type {_FORM} needs a boundary in its Content-Type header.")
        self._content, self._name, self._fields, self._ended = bytearray(), "", 0, False
        self._header, self._value, self._headers = bytearray(), bytearray(), 0
        callbacks: dict[str, Callable[..., Any]] = {
            "on_header_field": lambda data, start, end: self._take(self._header, data[start:end]),
            "on_header_value": lambda data, start, end: self._take(self._value, data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._begin_field,
            "on_part_data": lambda data, start, end: self._content.extend(data[start:end]),
            "on_end": self._end,
        }
        self._disposition = b""
        try:
            self._parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        except FormParserError as error:
            raise RefusedError(400, f"The boundary of the form cannot be used: {one_line(str(error))}.") from error

    def feed(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise RefusedError(400, f"The form is damaged: {one_line(str(error))}.") from error

    def finish(self) -> Body:
        if not self._ended:
            raise RefusedError(400, "The form is cut short: its last boundary is missing.")
        if not self._content:
            raise RefusedError(400, f"The field {FIELD} is empty; send the bytes of an image in it.")
        return Body(bytes(self._content), self._name)

    def _take(self, text: bytearray, part: bytes) -> None:
        """Add to a header of a field; refuse a form whose headers go on and on."""
        text.extend(part)
        self._headers += len(part) + 1
        if self._headers > _MOST_HEADERS:
            raise RefusedError(
                400, f"The headers of a field have more than {_MOST_HEADERS:,} bytes; send shorter ones."
            )

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _begin_field(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        self._disposition = b""
        self._fields += 1
        if name != FIELD or self._fields > 1:
            raise RefusedError(400, f"A form must have one field, {FIELD}; got {short(name)} as field {self._fields}.")
        file = options.get(b"filename", b"").decode("utf-8", "replace")
        self._name = one_line(file.replace("\\", "/").rpartition("/")[2])[:LONGEST]

    def _end(self) -> None:
        self._ended = True
