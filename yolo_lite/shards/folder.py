"""The folder of a batch job: a file of rows for each shard, complete or absent, and the settings of all."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from yolo_lite.errors import InputError, is_memory_full, reason
from yolo_lite.files import make_folder, read_text
from yolo_lite.messages.image import ImageResult, encode_image_result
from yolo_lite.shards.parquet import ParquetRows, check_pyarrow

FORMATS = ("jsonl", "parquet")
SETTINGS = "manifest.json"
_PART = re.compile(r"\.(.+)\.[0-9a-f]{16}\.part(\..+)")  # the names that `_unfinished` gives


class Rows(Protocol):
    """Writes results to an open file."""

    def write(self, result: ImageResult) -> None:
        """Write a result, now or later."""

    def close(self) -> None:
        """Write what is left."""

    def abandon(self) -> None:
        """Write no more, whatever is left."""


class JsonRows:
    """Writes results as lines of JSON to an open file.

    Example:
        >>> with Path("rows.jsonl").open("wb") as file:
        ...     JsonRows(file).write(ImageResult("a.jpg", error="a.jpg does not exist"))
        >>> Path("rows.jsonl").read_text()
        '{"schema_version":1,"source":"a.jpg","error":"a.jpg does not exist"}\\n'
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, result: ImageResult) -> None:
        """Write a line."""
        self._file.write(encode_image_result(result) + b"\n")

    def close(self) -> None:
        """Do nothing: no line waits."""

    abandon = close


class ResultFolder:
    """The folder that all workers of a job write into.

    Args:
        folder: the folder, which is created if it is missing.
        rows: format of the rows, jsonl or parquet.

    Raises:
        InputError: if the folder cannot be created, the format is unknown, or its library is not installed.

    Example:
        >>> folder = ResultFolder(Path("job"))
        >>> with folder.shard(7) as write:
        ...     write(ImageResult("a.jpg", error="a.jpg does not exist"))
        >>> folder.finished()
        {7}
    """

    def __init__(self, folder: Path, rows: str = "jsonl") -> None:
        if rows not in FORMATS:
            raise InputError(f"format must be one of {', '.join(FORMATS)}, got {rows!r}")
        if rows == "parquet":
            check_pyarrow()
        make_folder(folder)
        self.folder, self.rows = folder, rows
        self._name = re.compile(rf"shard-(\d+)\.{rows}")

    def path(self, shard: int) -> Path:
        """Return where the rows of a shard are."""
        return self.folder / f"shard-{shard:06d}.{self.rows}"

    def finished(self) -> set[int]:
        """Return the numbers of all shards that are there."""
        matches = (self._name.fullmatch(path.name) for path in self._entries())
        return {int(match[1]) for match in matches if match}

    def tidy(self) -> None:
        """Remove unfinished files whose finished ones are there: shards, the settings, and the list of a folder.

        Killed workers have left them, or others are writing the same once more, which notice it at the end.
        """
        names = {path.name for path in self._entries()}
        for name in names:
            match = _PART.fullmatch(name)
            if match and match[1] + match[2] in names:
                with contextlib.suppress(OSError):  # Windows keeps open files
                    (self.folder / name).unlink()

    def agree(self, settings: Mapping[str, Any]) -> None:
        """Store the settings of the job, or compare them with those that are there.

        Args:
            settings: plain values by name, in sections; names and class_names only inform, and are not compared.

        Raises:
            InputError: if results of other settings are in the folder; the message says which.
        """
        path = self.folder / SETTINGS
        if self.finished() and not path.exists():  # in this order: others may have just begun
            raise InputError(
                f"{self.folder} has shards but no {SETTINGS}, so their settings are unknown; choose another --out"
            )
        write_once(path, lambda file: file.write(json.dumps(settings, indent=2).encode("ascii") + b"\n"))
        try:
            there = json.loads(read_text(path))
        except ValueError as error:
            raise InputError(f"{path} cannot be read ({reason(error)}); choose another --out") from error
        differences = compare_settings(there, settings)
        if differences:
            raise InputError(
                f"{self.folder} was begun with other settings: {', '.join(differences)}; choose another --out, or the same "
                "settings"
            )

    @contextlib.contextmanager
    def shard(self, number: int) -> Iterator[Callable[[ImageResult], None]]:
        """Yield a function that writes a row of a shard, which gets its name at the end of the `with` block.

        Two workers may write the same shard at the same time: the last one's file stays. On any failure the shard is
        absent.

        Raises:
            InputError: if it cannot be written, as on a full disk.
        """
        path = self.path(number)
        part = _unfinished(path)
        try:
            with self._explained(path):
                file = part.open("xb")
                rows: Rows = ParquetRows(file) if self.rows == "parquet" else JsonRows(file)
            try:

                def write(result: ImageResult) -> None:
                    with self._explained(path):
                        rows.write(result)

                yield write
                with self._explained(path):
                    rows.close()
                    _store(file)
            finally:
                rows.abandon()
                with contextlib.suppress(OSError):  # of a full disk, which was reported already
                    file.close()
            with self._explained(path):
                _rename(part, path)
        finally:
            part.unlink(missing_ok=True)

    def _entries(self) -> list[Path]:
        with self._explained(self.folder):
            return [self.folder / name for name in os.listdir(self.folder)]

    @contextlib.contextmanager
    def _explained(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if is_memory_full(error):
                raise
            raise InputError(f"cannot write {path}: {reason(error)}") from error


def compare_settings(there: Any, now: Any, *, name: str = "") -> list[str]:
    """Return what differs between two settings, each with both values.

    Example:
        >>> compare_settings({"detector": {"score_threshold": 0.25}}, {"detector": {"score_threshold": 0.5}})
        ['score_threshold 0.25 there, 0.5 now']
    """
    if isinstance(there, dict) and isinstance(now, dict):
        keys = [key for key in {**there, **now} if key not in ("name", "class_names")]
        return [line for key in keys for line in compare_settings(there.get(key), now.get(key), name=key)]
    if there == now:
        return []
    short = (str(value)[:12] if name.endswith("sha256") else json.dumps(value) for value in (there, now))
    return [f"{name.replace('_sha256', '')} {next(short)} there, {next(short)} now"]


def write_once(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file unless it is there; of several processes that do so at the same time, the first one's file stays.

    `write` is called in any case.

    Raises:
        InputError: if the file cannot be written.

    Example:
        >>> for text in (b"first", b"second"):
        ...     write_once(Path("once.txt"), lambda file: file.write(text))
        >>> Path("once.txt").read_text()
        'first'
    """
    part = _unfinished(path)
    try:
        with part.open("xb") as file:
            write(file)
            _store(file)
        try:
            os.link(part, path)
        except FileExistsError:
            pass
        except OSError:  # a disk without hard links, or another worker has tidied up
            if not path.exists():
                os.replace(part, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {reason(error)}") from error
    finally:
        part.unlink(missing_ok=True)


def _unfinished(path: Path) -> Path:
    """Return a hidden path that no other process has: process ids are equal in containers that share a disk."""
    return path.with_name(f".{path.stem}.{secrets.token_hex(8)}.part{path.suffix}")


def _store(file: BinaryIO) -> None:
    """Wait until the disk has the content, or a machine that fails could leave an empty file under the final name."""
    file.flush()
    os.fsync(file.fileno())


def _rename(part: Path, path: Path) -> None:
    try:
        os.replace(part, path)
    except FileNotFoundError:  # another worker has finished the same shard and tidied up
        if not path.exists():
            raise
