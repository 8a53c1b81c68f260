"""The command line `yolo-lite`, with a module for each command; no other part of the package prints."""

from __future__ import annotations

import argparse
import atexit
import errno
import gc
import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

import yolo_lite
from yolo_lite.cli import flags, progress, values
from yolo_lite.cli.screen import WriteError, error_screen, screens, write_no_more
from yolo_lite.errors import InputError, Stopped, is_memory_full, reason
from yolo_lite.ranks import PeerError, RankError, check_launch, is_first, local_rank
from yolo_lite.shipped import NEEDS_FULL, is_full
from yolo_lite.version import VERSION

COMMANDS = {  # each has a module of its name in commands/, which is imported only to run it
    "train": "train a detector on labelled images",
    "detect": "find objects in images, videos and live streams",
    "eval": "score a checkpoint or a result file",
    "classify": "train, score and use a classifier of whole images",
    "config": "print every setting with its value, default, range and meaning",
    "export": "write a checkpoint as a file for ONNX Runtime, OpenVINO or torch alone",
    "card": "print the model card of a checkpoint",
    "convert": "convert weights of other projects to checkpoints",
    "data": "check, count, show, reduce and convert data sets",
    "inspect": "show what a network is made of and what it sees",
    "tune": "search for better settings",
    "serve": "answer HTTP requests with detections, and show a page in the browser",
    "bench": "measure speed on this machine",
}


_JOINT = {"train", "eval", "classify"}  # commands that the processes of torchrun run together; rank 0 alone prints


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    0: success; 1: a video ended early, or the data has faults; 2: refused with one line of explanation; 130, 129 and
    143: stopped by Ctrl-C, SIGHUP and SIGTERM.
    """
    began = time.perf_counter()
    _let_threads_sleep()
    _leave_quickly()
    outcome = _Outcome()
    arguments = sys.argv[1:] if arguments is None else arguments
    with screens(is_silent=_is_silent(arguments)), _signals(), _log(), _warnings(), _failures(outcome):
        check_launch()
        words = flags.joined(flags.modern(arguments))
        outcome.command = next((word for word in words if not word.startswith("-")), None)
        parser = build_parser(outcome.command)
        args = outcome.args = parser.parse_args(words)
        if args.version:
            for line in environment():
                print(line)
        elif args.command is None:
            parser.print_help()
            outcome.status = 2
        else:
            beating = progress.heartbeat(f"{args.command} {getattr(args, 'what', '')}".strip())
            with nullcontext() if getattr(args, "quiet", False) else beating:
                values.prepare(args)
                args.began = began  # a time limit counts from here
                outcome.status = args.run(args)
    return outcome.status


def _is_silent(arguments: Sequence[str]) -> bool:
    """Return whether another process speaks for this one."""
    try:
        return not is_first() and not _JOINT.isdisjoint(arguments[:1])
    except RankError:  # which check_launch will report
        return False


@dataclass
class _Outcome:
    """Exit status of a command, and its arguments as far as they are known."""

    status: int = 0
    command: str | None = None
    args: argparse.Namespace = field(default_factory=argparse.Namespace)


@contextmanager
def _failures(outcome: _Outcome) -> Iterator[None]:
    """Report in one line why a command was refused or stopped; bugs keep their traceback."""
    try:
        with _explained(outcome):
            yield
    except WriteError as error:
        outcome.status = _unwritten(error)


@contextmanager
def _explained(outcome: _Outcome) -> Iterator[None]:
    try:
        yield
    except WriteError:
        raise
    except InputError as error:
        outcome.status = _fail(str(error), is_silent=_is_reported(error))
    except Stopped as error:
        print(f"stopped by {signal.Signals(error.signal).name}", file=sys.stderr)
        outcome.status = 128 + error.signal
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        outcome.status = 130
    except ModuleNotFoundError as error:
        if error.name is None or (error.name.partition(".")[0] not in _PACKAGES and is_full()):
            raise
        outcome.status = _fail(_missing(outcome, error.name))
    except Exception as error:
        if is_memory_full(error):
            outcome.status = _fail(f"main memory is full; {_remedy(outcome.args)}")
        elif isinstance(error, OSError):
            outcome.status = _fail(f"{error.filename or outcome.args.command}: {reason(error)}")
        else:
            raise


def _is_reported(error: InputError) -> bool:
    """Return whether another process that torchrun started on this machine reports an error."""
    if isinstance(error, PeerError):
        return local_rank() > 0 or not error.is_elsewhere
    return not isinstance(error, RankError) and local_rank() > 0  # all processes refuse the same arguments


_PACKAGES = {  # by module, what to install if it is missing from the full package
    **{name: name for name in ("albumentations", "matplotlib", "pycocotools", "torch", "torchvision", "tqdm")},
    "cv2": "opencv-python-headless",
    "yaml": "PyYAML",
}


def _missing(outcome: _Outcome, module: str) -> str:
    """Return why a command cannot run without a module."""
    command = f"{outcome.command} {getattr(outcome.args, 'what', '')}".strip()
    if is_full():
        package = _PACKAGES[module.partition(".")[0]]
        return f"{command} needs {package}, which is not installed: pip install {package}"
    weights = getattr(outcome.args, "weights", None)
    if weights and outcome.command in ("detect", "classify") and not values.is_exported(weights):
        return f"{weights} is not an exported file (.onnx or .xml), and {command} with a checkpoint {NEEDS_FULL}"
    return f"{command} {NEEDS_FULL}"


def _unwritten(error: WriteError) -> int:
    """End because output cannot be written; silently if its reader has gone, as `head` does once it has enough."""
    write_no_more()
    if error.errno == errno.EPIPE:
        return 1
    with suppress(WriteError):  # standard error may be closed as well
        _fail(f"the output could not be written: {reason(error)}")
    return 2


def _let_threads_sleep() -> None:
    """Let waiting threads sleep instead of spinning, unless the user has chosen: they would slow other programs down.

    OpenMP reads the variable when torch is imported, which happens later.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Build the parser with the names of all commands and the flags of the given one."""
    parser = flags.Parser(
        "yolo-lite", description="Train, evaluate and use object detectors and image classifiers. Works offline."
    )
    parser.add_argument("--version", action="store_true", help="print the versions of yolo-lite and its dependencies")
    commands = parser.add_subparsers(dest="command", metavar="command")
    for name, purpose in COMMANDS.items():
        is_here = is_full() or (Path(__file__).parent / "commands" / f"{name}.py").is_file()
        added = commands.add_parser(name, help=purpose if is_here else f"{purpose} (full package only)")
        if name == command:
            import_module(f"yolo_lite.cli.commands.{name}").add_arguments(added)
    return parser


def environment() -> list[str]:
    """Return the versions that matter in a bug report, a line each, without importing any of the packages."""
    from importlib.metadata import PackageNotFoundError, version

    installed: dict[str, str | None] = {}
    for name in ("yolo-lite", "yolo-lite-runtime", *_TORCH, *_LIBRARIES):
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            installed[name] = None
    package = "yolo-lite" if is_full() else "yolo-lite-runtime"
    lines = [f"{package} {VERSION}", f"python {sys.version.split()[0]} on {sys.platform}"]
    for name in (*(_TORCH if is_full() else ()), *_LIBRARIES):
        if installed[name] or name not in _OPTIONAL:
            lines.append(f"{name} {installed[name] or 'is not installed'}")
    if is_full():
        built = any(Path(yolo_lite.__file__).parent.glob("_native*.*[od]"))  # .so or .pyd
        lines.append(f"C extension of the ops {'built' if built else 'not built: no compiler at installation?'}")
    if installed["yolo-lite"] and installed["yolo-lite-runtime"]:
        lines.append("yolo-lite and yolo-lite-runtime are both installed, and share files: uninstall both, install one")
    return lines


_TORCH = ("torch", "torchvision", "albumentations", "pycocotools")
_LIBRARIES = ("numpy", "Pillow", "onnxruntime", "opencv-python-headless", "opencv-python")
_OPTIONAL = ("onnxruntime", "opencv-python")


def _leave_quickly() -> None:
    """Keep Python from searching for garbage when the process ends, which takes a second or two after a training."""
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)


@contextmanager
def _signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise `Stopped`, as Ctrl-C raises KeyboardInterrupt; ignored signals (nohup) stay ignored."""
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):  # Windows lacks the second
            number = getattr(signal, name, None)
            if number and signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: object) -> None:
    raise Stopped(number)


@contextmanager
def _log() -> Iterator[None]:
    """Write the log of the library, such as which large file it reads, to standard error."""
    handler = _LogLines(logging.INFO)
    logger = logging.getLogger("yolo_lite")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


class _LogLines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), file=sys.stderr)


@contextmanager
def _warnings() -> Iterator[None]:
    """Hide harmless warnings and shorten others to one line, unless -W or PYTHONWARNINGS is set."""
    with warnings.catch_warnings():
        if not sys.warnoptions:
            for module, message in _EXPLAINED:
                warnings.filterwarnings("ignore", message, module=module)
            warnings.showwarning = _print_warning
        yield


_EXPLAINED = (
    (r"PIL\.", ""),  # about unused metadata, or a file that is then refused or skipped with a line
    ("", "Detected pickle protocol"),  # by torch, about a checkpoint that is then refused; so is the next
    ("", "'torch.load' received a zip file"),
)


def _print_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)


def _remedy(args: argparse.Namespace) -> str:
    """Return advice: which flags of the command save memory."""
    flags = [f"--{name.replace('_', '-')}" for name in ("batch_size", "image_size") if hasattr(args, name)]
    saving = [f"a smaller {' or '.join(flags)}"] * bool(flags) + ["--cache none"] * hasattr(args, "cache")
    return f"close other programs, or use {', or '.join(saving) or 'smaller files'}"


def _fail(message: str, *, is_silent: bool = False) -> int:
    line = " ".join(message.split())
    if not is_silent:
        print(f"error: {line if len(line) < 1200 else f'{line[:800]} ... {line[-300:]}'}", file=error_screen())
    return 2
