"""Rows in Parquet, with the names and the nesting of the JSON documents. No other module imports pyarrow."""

from __future__ import annotations

from typing import Any, BinaryIO

from yolo_lite.errors import InputError
from yolo_lite.messages.image import ImageResult, image_document

_GROUP = 1000  # rows in memory


def check_pyarrow() -> None:
    """Raise InputError if pyarrow is not installed.

    Example:
        >>> check_pyarrow()  # doctest: +SKIP
    """
    _import()


class ParquetRows:
    """Writes results as rows of Parquet to an open file.

    Columns: schema_version, source, image_size, detections (a list of class_name, label, score and box) and error.

    Example:
        >>> with Path("rows.parquet").open("wb") as file:  # doctest: +SKIP
        ...     rows = ParquetRows(file)
        ...     rows.write(ImageResult("a.jpg", error="a.jpg does not exist"))
        ...     rows.close()
    """

    def __init__(self, file: BinaryIO) -> None:
        self._arrow, parquet = _import()
        self._schema = _schema(self._arrow)
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._waiting: list[dict[str, Any]] = []

    def write(self, result: ImageResult) -> None:
        """Write a row, with others once there are many."""
        document = image_document(result)
        document["source"] = _plain(result.source)  # a name that is not UTF-8 cannot be a text in Arrow
        if result.error:
            document["error"] = _plain(result.error)
        self._waiting.append(document)
        if len(self._waiting) == _GROUP:
            self._flush()

    def close(self) -> None:
        """Write the rows that wait, and the end of the file."""
        self._flush()
        self._writer.close()

    def abandon(self) -> None:
        """Write no more; pyarrow would otherwise write the end of the file when it forgets the writer."""
        self._writer.is_open = False

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(self._arrow.Table.from_pylist(self._waiting, schema=self._schema))
            self._waiting = []


def _schema(arrow: Any) -> Any:
    detection = arrow.struct(
        [
            ("class_name", arrow.string()),
            ("label", arrow.int32()),
            ("score", arrow.float32()),
            ("box", arrow.list_(arrow.float32())),
        ]
    )
    return arrow.schema(
        [
            ("schema_version", arrow.int32()),
            ("source", arrow.string()),
            ("image_size", arrow.list_(arrow.int32())),
            ("detections", arrow.list_(detection)),
            ("error", arrow.string()),
        ]
    )


def _plain(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _import() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError("--format parquet needs pyarrow: pip install pyarrow, or use --format jsonl") from error
    return pyarrow, pyarrow.parquet
