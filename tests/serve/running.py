"""The real server in a process of its own, on a free port of this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

NAME = "yolo_lite-shuffle-1.5x-coco"


@contextmanager
def running_server(*arguments: str, weights: tuple[str, ...] = (NAME,)) -> Iterator[str]:
    """Start `yolo-lite serve` with further arguments, and yield the address of its page."""
    command = [sys.executable, "-m", "yolo_lite", "serve", "--port", "0", "--device", "cpu", "--threads", "1"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [*command, "--weights", *weights, *arguments], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield _address(process)
        finally:
            process.terminate()


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.match(r"listening on (\S+)", line):
            return found[1].rstrip("/") + "/"
    raise AssertionError(f"the server ended with status {process.wait()}")
