"""Run steps one after the other, each in a process and a time limit of its own, and report them in a table and as JSON.

A step that fails, crashes or hangs is reported, and the next one runs: an error of CUDA often spoils its process for good.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MINUTES = 6.0  # the limits of the steps are meant for this total
RESERVE = 5.0  # seconds at the end, to stop the last step and write the report
PASSED, FAILED, SKIPPED, NOT_RUN = "passed", "FAILED", "skipped", "not run"
LAUNCHER = (sys.executable,)
BEGAN = time.monotonic()  # before torch is imported, which counts as well


class Skipped(Exception):
    """Why a step cannot run on this machine."""


@dataclass(frozen=True)
class Session:
    """What a step gets: the kind of device, and a file for its figures. Its current folder is empty, and its own."""

    device: str  # cuda or cpu
    file: Path

    def note(self, **figures: Any) -> None:
        """Add figures to the report at once, so that they remain if the step is stopped later."""
        self._write({"figures": figures})

    def close(self, result: str, summary: str) -> None:
        """Report the end of the step."""
        self._write({"result": result, "summary": summary})

    def _write(self, row: dict[str, Any]) -> None:
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


@dataclass(frozen=True)
class Step:
    """One row of the table.

    Attributes:
        name: its name in the table, and of --step.
        run: does the work; returns a summary, or raises Skipped or any other error.
        seconds: its time limit, if the whole may take MINUTES.
        cuda_only: why it makes no sense on a CPU; empty if it does.
        launcher: what starts the script of the step.
    """

    name: str
    run: Callable[[Session], str]
    seconds: float
    cuda_only: str = ""
    launcher: Sequence[str] = LAUNCHER


@dataclass(frozen=True)
class Outcome:
    """What became of a step."""

    name: str
    result: str
    summary: str
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)
    log: str = ""  # the end of what its process printed


def main(
    steps: Sequence[Step],
    *,
    script: str,
    describe: Callable[[str], dict[str, Any]],
    arguments: Sequence[str] | None = None,
) -> int:
    """Run the steps, or the one that --step names, and return the exit status.

    Args:
        steps: what is to run, the most important first.
        script: the file that calls this function with the same steps.
        describe: returns what the report says about the machine, given the kind of device.
        arguments: of the command line; None: those of the process.
    """
    parser = argparse.ArgumentParser(description="Check and measure what the package claims about GPUs.")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="device (default: cuda)")
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"time limit in all (default: {MINUTES:g})")
    parser.add_argument("--json", type=Path, help="file for all figures (default: none)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="names of the steps to run (default: all)")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--report", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.step:
        return run_here(steps, name=args.step, session=Session(args.device, args.report))
    unknown = set(args.only or ()) - {step.name for step in steps}
    if unknown:
        parser.error(f"--only takes {', '.join(step.name for step in steps)}; got {', '.join(sorted(unknown))}")
    chosen = [step for step in steps if not args.only or step.name in args.only]
    about = {"minutes": args.minutes, "device": args.device, **describe(args.device)}
    return run_all(chosen, script=script, about=about, target=args.json)


def run_here(steps: Sequence[Step], *, name: str, session: Session) -> int:
    """Run one step in this process."""
    step = next(step for step in steps if step.name == name)
    try:
        session.close(PASSED, step.run(session))
    except Skipped as reason:
        session.close(SKIPPED, str(reason))
    except Exception as error:
        traceback.print_exc()
        line = next(iter(str(error).strip().splitlines()), "")
        session.close(FAILED, f"{type(error).__name__}: {line}")
        return 1
    return 0


def run_all(steps: Sequence[Step], *, script: str, about: dict[str, Any], target: Path | None) -> int:
    """Run all steps within the time, print a row for each, write the JSON, and return the exit status."""
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    print(f"{'step':<16}{'result':<10}{'seconds':>8}  figures", flush=True)
    outcomes: list[Outcome] = []
    for step in steps:
        left = 60 * about["minutes"] - RESERVE * scale(about["minutes"]) - (time.monotonic() - BEGAN)
        outcome = attempt(step, script=script, device=about["device"], minutes=about["minutes"], left=left)
        outcomes.append(outcome)
        print(f"{outcome.name:<16}{outcome.result:<10}{outcome.seconds:>8.1f}  {outcome.summary}", flush=True)
        if target:
            whole = {**about, "seconds": time.monotonic() - BEGAN, "steps": [asdict(each) for each in outcomes]}
            target.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    for outcome in outcomes:
        if outcome.result == FAILED and outcome.log:
            print(f"\n{outcome.name}, the end of its output:\n{outcome.log}")
    counts = {result: sum(each.result == result for each in outcomes) for result in (PASSED, FAILED, SKIPPED, NOT_RUN)}
    print(", ".join(f"{count} {result}" for result, count in counts.items()) + f"; {time.monotonic() - BEGAN:.0f} s")
    return 1 if counts[FAILED] or counts[NOT_RUN] else 0


def scale(minutes: float) -> float:
    """Return the factor on all limits."""
    return minutes / MINUTES


def attempt(step: Step, *, script: str, device: str, minutes: float, left: float) -> Outcome:
    """Run a step in a process of its own, if it makes sense on the device and there is time for it."""
    if step.cuda_only and device != "cuda":
        return Outcome(step.name, SKIPPED, f"only on CUDA: {step.cuda_only}")
    limit = step.seconds * scale(minutes)
    if left < limit / 3:
        return Outcome(step.name, NOT_RUN, f"no time left ({max(left, 0):.0f} s, of {limit:.0f} s that it may take)")
    with tempfile.TemporaryDirectory(prefix="yolo_lite_gpu_", ignore_cleanup_errors=True) as folder:
        report = Path(folder) / "report.jsonl"
        command = [*step.launcher, script, "--step", step.name, "--device", device, "--report", str(report)]
        return run_process(step.name, command, report=report, limit=min(limit, left))


def run_process(name: str, command: Sequence[str], *, report: Path, limit: float) -> Outcome:
    """Run the process of a step, stop it at its limit, and return what it reported up to its end."""
    work, log = report.parent / "work", report.parent / "log.txt"
    work.mkdir()
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=work,
            env=environment(report.parent),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            stop(process)
    seconds = time.monotonic() - began
    rows = read_rows(report)
    figures = {name: value for row in rows for name, value in row.get("figures", {}).items()}
    ended = next((row for row in rows if "result" in row), None)
    if ended and status is not None:
        result, summary = ended["result"], ended["summary"]
    else:
        result, summary = FAILED, f"stopped after {limit:.0f} s, its limit" if status is None else in_words(status)
    tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-25:])
    return Outcome(name, result, summary, seconds=round(seconds, 1), figures=figures, log=tail)


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a step: this package, and a folder for everything that it leaves behind."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    (folder / "tmp").mkdir()
    own = {"PYTHONPATH": os.pathsep.join(paths), "TMPDIR": str(folder / "tmp")}
    return {**os.environ, **own, "TORCHINDUCTOR_CACHE_DIR": str(folder / "tmp" / "inductor")}


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it started, first by SIGTERM, which torchrun passes on."""
    for number, patience in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):  # a hanging driver may keep it: go on without it
            process.wait(patience)


def read_rows(report: Path) -> list[dict[str, Any]]:
    """Return the rows that a step wrote; the last one may be cut off."""
    rows: list[dict[str, Any]] = []
    with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
        for line in report.read_text(encoding="utf-8").splitlines():
            rows.append(json.loads(line))
    return rows


def in_words(status: int) -> str:
    """Return how a process ended that reported no result."""
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status} without a result"
