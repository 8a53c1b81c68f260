"""Settle on a GPU what the package claims about GPUs."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
from pathlib import Path

import torch
from runner import main
from steps import STEPS


def describe(device: str) -> dict[str, str]:
    """Return names and versions of what the figures depend on."""
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
