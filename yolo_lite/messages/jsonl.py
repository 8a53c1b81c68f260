"""Messages as lines of a text file, or of standard output."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TextIO

from yolo_lite.errors import InputError, reason
from yolo_lite.files import make_folder
from yolo_lite.messages.targets import Report


class StreamSender:
    """Writes each message as a line to a stream."""

    name = "jsonl:-"

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._sent = stream, 0

    def send(self, key: str, value: bytes) -> None:
        """Write a line."""
        self._stream.write(f"{value.decode()}\n")
        self._stream.flush()
        self._sent += 1

    def close(self, limit: float) -> Report:
        """Return the number of lines."""
        return Report(self._sent, self._sent)


class FileSender:
    """Appends each message as a line to a file. A line is there at once, and is whole or absent.

    Raises:
        InputError: if the file cannot be written, or holds something other than lines of JSON.
    """

    def __init__(self, path: Path, *, name: str) -> None:
        self.name, self._path, self._sent = name, path, 0
        make_folder(path.parent)
        try:
            self._file = path.open("ab+", buffering=0)
            self._file.seek(0)
            head = self._file.read(1) if path.is_file() else b""
            self._end = self._file.seek(0, 2)
        except OSError as error:
            raise InputError(f"cannot write {path}: {reason(error)}") from error
        if head not in (b"", b"{"):
            self._file.close()
            raise InputError(f"{path} exists and does not hold lines of JSON; choose another file for {name}")

    def send(self, key: str, value: bytes) -> None:
        """Append a line.

        Raises:
            InputError: if the disk is full; the part of the line that was written is removed.
        """
        line = value + b"\n"
        try:
            written = self._file.write(line)
            while written < len(line):
                written += self._file.write(line[written:])
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(self._end)
            raise InputError(f"cannot write {self._path}: {reason(error)}") from error
        self._end += len(line)
        self._sent += 1

    def close(self, limit: float) -> Report:
        """Close the file."""
        self._file.close()
        return Report(self._sent, self._sent)
