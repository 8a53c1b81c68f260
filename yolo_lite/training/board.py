"""Write the numbers of each epoch for TensorBoard, if it is installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from yolo_lite.errors import InputError


def check_board() -> None:
    """Raise InputError if TensorBoard is not installed.

    Example:
        >>> import sys
        >>> from unittest.mock import patch
        >>> with patch.dict(sys.modules, {"torch.utils.tensorboard": None}):  # as if it were not installed
        ...     check_board()
        Traceback (most recent call last):
            ...
        yolo_lite.errors.InputError: --tensorboard needs TensorBoard: pip install tensorboard
    """
    try:
        import torch.utils.tensorboard  # noqa: F401 - only to see whether it can be imported
    except ImportError as error:
        raise InputError("--tensorboard needs TensorBoard: pip install tensorboard") from error


def open_board(folder: Path) -> Callable[[Mapping[str, float]], None]:
    """Return a function that writes the row of an epoch into the folder of a run, and closes the file each time.

    Example:
        >>> write = open_board(Path("board"))  # doctest: +SKIP
        >>> write({"epoch": 1, "loss_total": 2.5, "AP": 0.3})  # needs TensorBoard # doctest: +SKIP
    """
    from torch.utils.tensorboard import SummaryWriter

    def write(row: Mapping[str, float]) -> None:
        with SummaryWriter(str(folder)) as writer:
            for name, value in row.items():
                if name != "epoch":
                    writer.add_scalar(name.replace("loss_", "loss/", 1), value, int(row["epoch"]))

    return write
