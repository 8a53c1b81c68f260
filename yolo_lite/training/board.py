"""The numbers of each epoch for TensorBoard, where that is installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from yolo_lite.errors import InputError


def check_board() -> None:
    """Raise InputError where TensorBoard is not installed."""
    try:
        import torch.utils.tensorboard  # noqa: F401 - whether it can be imported is the question
    except ImportError as error:
        raise InputError("--tensorboard needs TensorBoard: pip install tensorboard") from error


def open_board(folder: Path) -> Callable[[Mapping[str, float]], None]:
    """Return what writes an epoch's row into a run's folder; the file is closed after each."""
    from torch.utils.tensorboard import SummaryWriter

    def write(row: Mapping[str, float]) -> None:
        with SummaryWriter(str(folder)) as writer:
            for name, value in row.items():
                if name != "epoch":
                    writer.add_scalar(name.replace("loss_", "loss/", 1), value, int(row["epoch"]))

    return write
