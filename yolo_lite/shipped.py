"""Find weights and configurations by a path, or by the bare name of a file that is shipped with the package."""

from __future__ import annotations

import os
from pathlib import Path

from yolo_lite.errors import InputError, suggest

DEFAULT_WEIGHTS = "yolo_lite-shuffle-1.5x-coco"
_PACKAGE = Path(__file__).parent


def find_weights(name: str) -> Path:
    """Return the weights file at a path, or the shipped file with a bare name such as yolo_lite-shuffle-coco.

    The full package ships checkpoints, and yolo-lite-runtime an exported file.

    Raises:
        InputError: if there is no such file; the message lists the shipped names.

    Example:
        >>> find_weights("yolo_lite-shuffle-coco").name
        'yolo_lite-shuffle-coco.pt'
    """
    return _find(name, "weights", ".pt" if is_full() else ".onnx")


def find_exported(weights: str | os.PathLike[str] | None) -> Path:
    """Return the exported file at a path, or the shipped one with a bare name; None stands for the default network.

    Raises:
        InputError: if no exported file is shipped, as in the full package, and none is named.

    Example:
        >>> find_exported("some.onnx").name
        'some.onnx'
        >>> find_exported(None)
        Traceback (most recent call last):
        yolo_lite.errors.InputError: no exported network is shipped here: write one with yolo-lite export, and pass its path
    """
    files = shipped("weights", ".onnx")
    if weights is None and DEFAULT_WEIGHTS not in files:
        raise InputError("no exported network is shipped here: write one with yolo-lite export, and pass its path")
    path = Path(DEFAULT_WEIGHTS if weights is None else weights)
    return path if path.exists() else files.get(str(path), path)


def is_full() -> bool:
    """Return whether this is the full package, not yolo-lite-runtime, which detects and classifies only.

    Example:
        >>> is_full()
        True
    """
    return (_PACKAGE / "training").is_dir()


NEEDS_FULL = "needs the full package: uninstall yolo-lite-runtime, then install yolo-lite (docs/install.md)"


def find_config(name: str) -> Path:
    """Return the configuration file at a path, or the shipped file with a bare name such as nano or lenet.

    Raises:
        InputError: if there is no such file; the message lists the shipped names.

    Example:
        >>> find_config("lenet").name
        'lenet.yaml'
    """
    return _find(name, "configs", ".yaml")


def shipped(kind: str, suffix: str) -> dict[str, Path]:
    """Return the files in a folder that is shipped with the package ("weights" or "configs"), by bare name.

    Example:
        >>> shipped("weights", ".pt")["yolo_lite-shuffle-coco"].suffix
        '.pt'
    """
    folders = (_PACKAGE / kind, _PACKAGE.parent / kind)  # inside a wheel, or at the top of the repository
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    return {file.stem: file for file in sorted(folder.glob(f"*{suffix}"))}


def _find(name: str, kind: str, suffix: str) -> Path:
    path = Path(name)
    if path.is_file():
        return path
    files = shipped(kind, suffix)
    if kind == "configs":
        files |= shipped("configs/classify", suffix)
    if name.removesuffix(suffix) in files:
        return files[name.removesuffix(suffix)]
    if path.is_dir():
        raise InputError(f"{name} is a folder, expected a file; shipped {kind}: {', '.join(files) or 'none'}")
    near = suggest(name, files)
    near = "" if near.startswith("known") else f"; {near}"  # the message lists all names already
    raise InputError(f"{name} does not exist; shipped {kind}: {', '.join(files) or 'none'}{near}")
