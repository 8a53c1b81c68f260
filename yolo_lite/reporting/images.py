"""Leaves images out of a report, so that its page stays small."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def keep_images(report: Mapping[str, Any], *, room: int) -> tuple[dict[str, Any], int]:
    """Return a report whose images fit into so many characters, and how many images were left out.

    Images come in order; those of an entry, such as an image and its ground truth, are kept or left out together.

    Args:
        report: what report.json holds; it is not changed.
        room: for all images together, in characters of base64.

    Example:
        >>> entry = {"truth": "data:image/png;base64,AAAA", "found": "data:image/png;base64,BBBB"}
        >>> keep_images({"worst": [entry, entry]}, room=60)[1]
        2
    """
    keeper = _Keeper(room)
    return keeper.mapping(report), keeper.left_out


class _Keeper:
    def __init__(self, room: int) -> None:
        self.room = room
        self.left_out = 0

    def mapping(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        images = [key for key, value in entry.items() if _is_image(value)]
        size = sum(len(entry[key]) for key in images)
        if size > self.room:
            self.room, self.left_out = 0, self.left_out + len(images)
            entry = {key: None if key in images else value for key, value in entry.items()}
        else:
            self.room -= size
        return {key: self._value(value) for key, value in entry.items()}

    def _value(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return self.mapping(value)
        return [self._value(entry) for entry in value] if isinstance(value, list) else value


def _is_image(value: object) -> bool:
    return isinstance(value, str) and value.startswith("data:image/")
