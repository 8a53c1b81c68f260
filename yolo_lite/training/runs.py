"""Folders of runs: runs/train-N, each used by one process at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from yolo_lite.errors import InputError
from yolo_lite.files import check_can_create, give_back, locked, make_folder
from yolo_lite.ranks import is_restarted, launch_id
from yolo_lite.training.folder import BEST, LAST, holds_run, remove_leftovers
from yolo_lite.training.task import Listener

_LAUNCH = ".torchrun"  # names the launch of an unfinished run, so that torchrun finds it again when it restarts
IN_USE = "a training run is still writing to it; wait until it ends, or choose another --out"


def check_run_folder(out: Path) -> None:
    """Raise InputError if a folder already holds a run, or could not be created.

    Example:
        >>> Path("old_run").mkdir()
        >>> (Path("old_run") / "last.pt").touch()
        >>> check_run_folder(Path("old_run"))
        Traceback (most recent call last):
            ...
        yolo_lite.errors.InputError: old_run already holds a run; add --resume to continue it, or choose another --out
    """
    if holds_run(out):
        raise InputError(f"{out} already holds a run; add --resume to continue it, or choose another --out")
    if (out / BEST).exists():
        raise InputError(f"{out} holds the {BEST} of a run that cannot be resumed without {LAST}; choose another --out")
    check_can_create(out)


@contextmanager
def new_run(out: Path | None, listener: Listener) -> Iterator[Path]:
    """Create the folder of a new run and lock it against other runs; remove it again if it stays empty.

    Under torchrun runs/train-N names its launch until the run is finished, for `interrupted_run`.

    Example:
        >>> with new_run(Path("short_run"), Listener()) as folder:
        ...     folder.is_dir()
        True
        >>> folder.exists()
        False
    """
    folder = new_run_folder(out)
    try:
        with locked(folder, IN_USE, say=listener.say):
            check_run_folder(folder)  # again: another run may have ended in it meanwhile
            if launch_id() and out is None:
                (folder / _LAUNCH).write_text(launch_id(), encoding="utf-8")
            yield folder
            forget_launch(folder)
    finally:
        if not holds_run(folder):
            forget_launch(folder)
        if out is None:
            give_back(folder)
        else:
            with suppress(OSError):  # a folder that is not empty stays
                folder.rmdir()


def new_run_folder(out: Path | None) -> Path:
    """Create and return the folder of a new run: `out`, or the next free runs/train-N, given to no other run.

    Example:
        >>> new_run_folder(Path("fresh_run")).is_dir()
        True
    """
    if out:
        check_run_folder(out)
        make_folder(out)
        remove_leftovers(out)
        return out
    while True:
        make_folder(Path("runs"))
        folder = Path("runs") / f"train-{max(_numbered_runs(), default=0) + 1}"
        try:
            folder.mkdir()
            return folder
        except (FileExistsError, FileNotFoundError):
            continue  # another run was faster, or has just removed its empty folder and runs/ with it


def interrupted_run(out: Path | None) -> Path | None:
    """Return the folder of the run that goes on now that torchrun has restarted its processes.

    Args:
        out: the folder that was asked for; None: the newest runs/train-N of the same launch.

    Returns:
        None if this is the first start, or no epoch was finished before.

    Example:
        >>> print(interrupted_run(None))
        None
    """
    if not is_restarted():
        return None
    if out:
        return out if holds_run(out) else None
    for _, folder in sorted(_numbered_runs().items(), reverse=True):
        launch = folder / _LAUNCH
        if holds_run(folder) and launch.is_file() and launch.read_text(encoding="utf-8") == launch_id():
            return folder
    return None


def forget_launch(folder: Path) -> None:
    """Remove the name of the launch from the folder of a finished run.

    Example:
        >>> forget_launch(Path("."))  # without torchrun there is none
    """
    (folder / _LAUNCH).unlink(missing_ok=True)


def newest_run() -> Path:
    """Return the runs/train-N with the highest number that holds a run.

    Raises:
        InputError: if there is none.

    Example:
        >>> for number in (2, 10):
        ...     folder = Path(f"runs/train-{number}")
        ...     folder.mkdir(parents=True)
        ...     (folder / "last.pt").touch()
        >>> newest_run().name
        'train-10'
    """
    runs = {number: folder for number, folder in _numbered_runs().items() if holds_run(folder)}
    if not runs:
        raise InputError("no run to resume in runs/; name its folder with --out")
    return runs[max(runs)]


def _numbered_runs() -> dict[int, Path]:
    matches = ((re.fullmatch(r"train-(\d+)", path.name), path) for path in Path("runs").glob("train-*"))
    return {int(match[1]): path for match, path in matches if match}
