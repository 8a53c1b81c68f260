"""Files of torch.export (.pt2): write one, and open one for the parity gate."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from yolo_lite.runtime.engines import Shape
from yolo_lite.runtime.info import KEY


def write_program(
    module: nn.Module, path: Path, *, shape: Sequence[int], outputs: Sequence[str], batch: int | None, text: str
) -> None:
    """Write a module as a file that `torch.export.load` opens, without this package.

    Args:
        module: in evaluation mode; takes uint8 [B, H, W, channels], and uses no operators but torch's own.
        path: of the file.
        shape: (H, W, channels).
        outputs: the names of its outputs; the file returns a dict.
        batch: B; None for any number.
        text: the description that goes into the extra file `yolo_lite`.

    Example:
        >>> class Double(nn.Module):
        ...     def forward(self, images):
        ...         return images.float() * 2
        >>> write_program(Double(), Path("double.pt2"), shape=(2, 2, 1), outputs=["twice"], batch=None, text="{}")
        >>> torch.export.load("double.pt2").module()(torch.ones(3, 2, 2, 1, dtype=torch.uint8))["twice"].shape
        torch.Size([3, 2, 2, 1])
    """
    images = torch.zeros(2 if batch is None else batch, *shape, dtype=torch.uint8)  # 1 would be taken for a constant
    dynamic = {"images": {0: torch.export.Dim("batch", min=1, max=4096)}} if batch is None else None
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        named = _Named(module, outputs).requires_grad_(False)
        program = torch.export.export(named, (images,), dynamic_shapes=dynamic)
        torch.export.save(program, path, extra_files={KEY: text})


class _Named(nn.Module):
    """A module that takes images and returns its outputs by name."""

    def __init__(self, module: nn.Module, outputs: Sequence[str]) -> None:
        super().__init__()
        self.module, self.outputs = module, tuple(outputs)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the outputs by name."""
        values = self.module(images)
        return dict(zip(self.outputs, (values,) if isinstance(values, Tensor) else values, strict=True))


class Program:
    """A .pt2 file as an engine of `runtime.session.Session`.

    Opening a file of torch.export may run code that the file holds, so only those are opened that were just written.

    Args:
        path: of the file.

    Example:
        >>> class Double(nn.Module):
        ...     def forward(self, images):
        ...         return images.float() * 2
        >>> write_program(Double(), Path("twice.pt2"), shape=(2, 2, 1), outputs=["twice"], batch=4, text="{}")
        >>> program = Program(Path("twice.pt2"))
        >>> program.inputs, program.outputs, program.text
        ([('images', [4, 2, 2, 1])], ['twice'], '{}')
    """

    def __init__(self, path: Path) -> None:
        extra = {KEY: ""}
        program = torch.export.load(path, extra_files=extra)
        self._module = program.module()
        self.text: str | None = extra[KEY] or None
        (name,) = program.graph_signature.user_inputs
        (images,) = (node.meta["val"] for node in program.graph.nodes if node.name == name)
        self.inputs: list[tuple[str, Shape]] = [
            (str(name), [side if isinstance(side, int) else None for side in images.shape])
        ]
        self.outputs = list(self._run(np.zeros([side or 1 for side in self.inputs[0][1]], np.uint8)))

    def run(self, images: npt.NDArray[np.uint8]) -> list[npt.NDArray[Any]]:
        """Return the outputs for inputs uint8 [B, H, W, channels]."""
        return list(self._run(images).values())

    def _run(self, images: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
        with torch.no_grad():
            return {name: value.numpy() for name, value in self._module(torch.from_numpy(images)).items()}
