"""Settle on a GPU what the package claims about GPUs, in at most six minutes.

    python tests/gpu/check_gpu.py --json gpu.json

prints a row for each step and ends with status 0 only if every step passed that this machine can run. Each step is a
process with a time limit of its own, so one that fails, crashes or hangs stops no other. A step for which no time is left
is "not run". `--device cpu` runs the same steps with small sizes on a CPU, which tests the script and not the package;
`--only NAME ...` runs some of the steps. All figures are in the JSON, those of the table are a selection.

| claim | page | step |
|---|---|---|
| `--device auto` takes CUDA; bf16 where the hardware has it; up to eight loading processes | install, settings, train | device |
| results are equal on every backend; graphs, compile, vmap; no waiting; kernels are compiled at first use | ops | ops exact |
| speed of nms_padded, alone and as a CUDA graph, of nms, batched_nms and box_iou, against torchvision | ops | ops timed |
| a checkpoint detects the same on a GPU | install | detection |
| speed of detection | results | detection timed |
| loss and gradient are those of a CPU; colours are changed on the GPU as on a CPU | train | one step |
| colours changed on the GPU relieve the loading processes | train | training timed |
| a GPU out of memory divides the batch by itself; if nothing fits, one line says what to do | train | out of memory |
| a run under torchrun with nccl equals one without | distributed | one rank |
| a resumed run equals an unbroken one; train.deterministic | settings, distributed | resumed |
| classifiers train as well | classify | classifier |
| ONNX Runtime's CUDA provider (which the package does not use) gives the boxes of its CPU provider | export | ONNX Runtime |
| train.compile can be faster on a GPU | settings | train.compile |

Not settled here, because it needs two GPUs or machines: synchronised batch normalisation and sums between ranks, a GPU for
each local rank, and out of memory on one of several GPUs. compute-sanitizer takes too long: check_ops.py runs it.
"""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from runner import main
from steps import STEPS


def describe(device: str) -> dict[str, str]:
    """Return names and versions of what the figures depend on; end the script if there is no such device."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device: nothing was checked", file=sys.stderr)
        raise SystemExit(2)
    about = {"GPU": "none", "driver": "none"}
    tool = shutil.which("nvidia-smi")
    if device == "cuda" and tool:
        asked = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"]
        lines = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=20).stdout.splitlines()
        about["GPU"], _, about["driver"] = (lines or ["none, none"])[0].partition(", ")
    about |= {"python": platform.python_version(), "torch": str(torch.__version__), "CUDA": str(torch.version.cuda)}
    for name in ("torchvision", "yolo-lite", "onnxruntime", "onnxruntime-gpu"):
        try:
            about[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            about[name] = "none"
    return about


if __name__ == "__main__":
    raise SystemExit(main(STEPS, script=str(Path(__file__).resolve()), describe=describe))
