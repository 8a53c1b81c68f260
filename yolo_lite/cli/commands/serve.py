"""`yolo-lite serve`."""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from yolo_lite.cli import flags, values
from yolo_lite.errors import InputError, counted
from yolo_lite.shipped import DEFAULT_WEIGHTS, is_full

if TYPE_CHECKING:
    from yolo_lite.serve.models import Model, Models

_TOKEN = "YOLO_LITE_TOKEN"
_M_ARENA_MAX = -8  # of mallopt, in glibc's malloc.h


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser its arguments."""
    parser.description = _serve.__doc__
    flags.add_flags(parser, ["served", "image-size"])
    flags.add_flag(parser, "batch-size", help="largest number of waiting images that are processed together", default=8)
    flags.add_flag(parser, "any-batch")
    flags.add_flags(
        parser, ["device", "score-threshold", "iou-threshold", "max-detections", "tta", "tiles", "tile", "overlap"]
    )
    flags.add_flag(parser, "threads", default=None, usual="all cores")
    flags.add_flags(parser, ["host", "port", "token", "allow-host", "max-bytes", "max-pixels", "seconds", "queue"])
    parser.set_defaults(run=_serve, quiet=True)


def _serve(args: argparse.Namespace) -> int:
    """Answer HTTP requests with detections: a page for the browser, and an interface for programs.

    The server listens on this machine only, unless --host names another address. Nothing that is sent is stored.
    It ends with Ctrl-C or SIGTERM, after it has finished the requests that it accepted. Exit status: 130, 143 or 129 if
    it was stopped by Ctrl-C, SIGTERM or SIGHUP; 2 if it could not start.
    """
    _check_extra()
    _share_memory()
    from yolo_lite.serve.access import is_loopback
    from yolo_lite.serve.application import Access, Application
    from yolo_lite.serve.limits import Limits
    from yolo_lite.serve.server import address_of, bind, serve

    token, allowed = _token(args), _allowed(args.allow_host)
    limits = Limits(args.max_bytes, args.max_pixels, seconds=args.seconds, queue=args.queue)
    with bind(args.host, args.port) as bound:
        models = _open(args)
        is_local = is_loopback(bound.getsockname()[0])
        own = (args.host.lower(), bound.getsockname()[0])
        access = Access(token, (*allowed, *own) if is_local or allowed else None)
        for model in models.by_name.values():
            print(_line(model))
        if not is_local:
            _warn(args.host, has_token=token is not None, has_names=bool(allowed))
        application = Application(models, limits, access=access, samples=_samples(), warm_up=True)
        serve(application, bound, on_start=lambda: print(f"listening on {address_of(bound)} (Ctrl-C stops)"))
    return 0


def _share_memory() -> None:
    """Let all threads of this process take memory from two pools of the C library, if it is glibc.

    Otherwise each thread has a pool of its own, and what one has freed is not used by the others: a server grows slowly.
    """
    with suppress(OSError, AttributeError, TypeError):  # another C library
        if "MALLOC_ARENA_MAX" not in os.environ:
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def _check_extra() -> None:
    """Raise InputError if a package of the extra is missing."""
    for module in ("starlette", "uvicorn", "python_multipart"):
        try:
            import_module(module)
        except ModuleNotFoundError as error:
            package, name = "yolo-lite" if is_full() else "yolo-lite-runtime", module.replace("_", "-")
            raise InputError(f"serve needs {name}, which is not installed: pip install '{package}[serve]'") from error


def _open(args: argparse.Namespace) -> Models:
    """Open the networks of --weights."""
    from yolo_lite.serve.models import Choices, open_models, split_name
    from yolo_lite.structures.tiles import tiling_of

    if args.threads and not all(values.is_exported(split_name(each)[1]) for each in args.served or [DEFAULT_WEIGHTS]):
        import torch

        torch.set_num_threads(args.threads)
    choices = Choices(
        device=args.device,
        image_size=args.image_size,
        score_threshold=args.score_threshold,
        iou_threshold=args.iou_threshold,
        max_detections=args.max_detections,
        tta=args.tta,
        tiles=tiling_of(args.tiles, args.tile, overlap=args.overlap),
        batch_size=args.batch_size,
        threads=args.threads or 0,
        any_batch=args.any_batch,
    )
    return open_models(args.served or [], choices)


def _allowed(hosts: Sequence[str]) -> list[str]:
    """Return host names as browsers write them."""
    for host in hosts:
        if not re.fullmatch(r"\w[\w.-]*", host):
            raise InputError(f"--allow-host takes names without port or *, such as gpu.example, got {host!r}")
    return [host.lower().rstrip(".") for host in hosts]


def _samples() -> list[Path]:
    from yolo_lite.predict.files import sample_image

    try:
        return [sample_image()]
    except InputError:
        return []


def _token(args: argparse.Namespace) -> str | None:
    """Return the token of --token, or of the environment, where other users of the machine do not see it."""
    token: str = args.token or os.environ.get(_TOKEN, "")
    if not token:
        return None
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise InputError("--token takes letters, digits and signs of ASCII, without spaces")
    return token


def _line(model: Model) -> str:
    kind = "detector" if model.task == "detect" else "classifier"
    classes = counted(len(model.network.class_names), "class", plural="classes")
    return f"{model.name}: {kind} of {classes}, {model.backend} on {model.device}{_batches(model)}"


def _batches(model: Model) -> str:
    most = model.batch_sizes[-1]
    return f", batches of up to {most}" if most > 1 else ", one image at a time"


def _warn(host: str, *, has_token: bool, has_names: bool) -> None:
    """Warn about an address that other machines can reach."""
    lines = [
        f"everybody who can reach {host} can use this server: it asks for no password (--token sets one), and images "
        "travel unencrypted"
    ]
    if has_token:
        lines = ["images and the token travel unencrypted; put a proxy with TLS in front"]
    if not has_names:
        lines.append(
            "the server answers for any host name, so a web page whose name was pointed at this machine can call it; pass "
            "the name that your clients use: --allow-host NAME"
        )
    for line in lines:
        print(f"warning: {line}", file=sys.stderr)
