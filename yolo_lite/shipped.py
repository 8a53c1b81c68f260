"""Find weights and configurations by path or by the bare name of a shipped file."""

from __future__ import annotations

from pathlib import Path

from yolo_lite.errors import InputError, suggest

DEFAULT_WEIGHTS = "yolo_lite-shuffle-coco"
_PACKAGE = Path(__file__).parent


def find_weights(name: str) -> Path:
    """Return the file that a path or bare name (yolo_lite-shuffle-coco) means; raise InputError naming those that exist."""
    return _find(name, "weights", ".pt")


def find_config(name: str) -> Path:
    """Return the file that a path or bare name (nano, lenet) means; raise InputError naming those that exist."""
    return _find(name, "configs", ".yaml")


def shipped(kind: str, suffix: str) -> dict[str, Path]:
    """Return the files of a folder that travels with the package ("weights", "configs"), by bare name."""
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
        raise InputError(f"{name} is a folder, expected a file of {kind}; shipped {kind}: {', '.join(files) or 'none'}")
    near = suggest(name, files)
    near = "" if near.startswith("known") else f"; {near}"  # the list is there already
    raise InputError(f"{name} does not exist; shipped {kind}: {', '.join(files) or 'none'}{near}")
