"""A Python program in a process of its own, which answers calls: lines of JSON, in and out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TextIO

from yolo_lite.errors import InputError


class Peer:
    """A running program; a `with` block ends it.

    Args:
        module: name of the module that is run; it calls `answer_calls`.

    Example:
        >>> with Peer("yolo_lite.bench.clients") as clients:
        ...     clients.ask("open", port=8000, files=[], answers=[])
    """

    def __init__(self, module: str) -> None:
        command = [sys.executable, "-m", module]
        self._name = module.rpartition(".")[2]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=child_environment()
        )

    def ask(self, call: str, **values: Any) -> Any:
        """Call a function of the program by name, and return its result.

        Raises:
            InputError: if it raised one, or the program has ended.
        """
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(json.dumps({"call": call, **values}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # reading tells why
        line = self._process.stdout.readline()
        if not line:
            raise InputError(f"the process {self._name} ended; its last output is above")
        answer = json.loads(line)
        if "error" in answer:
            raise InputError(answer["error"])
        return answer["result"]

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind:
            self._process.kill()
        self._process.communicate()


def child_environment() -> dict[str, str]:
    """Return the environment of a measured process: as the command line sets it, without a token for the server.

    Example:
        >>> "YOLO_LITE_TOKEN" in child_environment()
        False
    """
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    environment.pop("YOLO_LITE_TOKEN", None)
    return environment


def answer_calls(
    functions: Mapping[str, Callable[..., Any]], lines: TextIO | None = None, *, out: TextIO | None = None
) -> None:
    """Answer calls until there are no more.

    Args:
        functions: by name; their results become JSON.
        lines: the calls; None: standard input.
        out: receives the answers; None: standard output.

    Example:
        >>> import io
        >>> answers = io.StringIO()
        >>> answer_calls({"add": lambda a, b: a + b}, io.StringIO('{"call": "add", "a": 1, "b": 2}'), out=answers)
        >>> answers.getvalue()
        '{"result": 3}\\n'
    """
    out = out or sys.stdout
    for line in lines or sys.stdin:
        values = json.loads(line)
        function = functions[values.pop("call")]
        try:
            answer = {"result": function(**values)}
        except InputError as error:
            answer = {"error": str(error)}
        out.write(json.dumps(answer) + "\n")
        out.flush()
