"""The one module that imports onnx and onnxscript: turns a module into an ONNX file of opset 18."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from yolo_lite.errors import InputError
from yolo_lite.exporting.graph import CHOOSE, SELECT
from yolo_lite.exporting.suppression import float32_floor
from yolo_lite.runtime.info import KEY

OPSET = 18


def write_onnx(
    module: nn.Module, path: Path, *, shape: Sequence[int], outputs: Sequence[str], batch: int | None, text: str
) -> None:
    """Write a module as an ONNX file.

    Args:
        module: in evaluation mode; takes uint8 [B, H, W, channels].
        path: of the file.
        shape: (H, W, channels).
        outputs: the names of its outputs.
        batch: B; None for any number.
        text: the description that goes into the metadata.

    Raises:
        InputError: if onnx or onnxscript is not installed.

    Example:
        >>> class Double(nn.Module):
        ...     def forward(self, images):
        ...         return images.float() * 2
        >>> write_onnx(Double(), Path("double.onnx"), shape=(2, 2, 1), outputs=["twice"], batch=None, text="{}")
        >>> Path("double.onnx").stat().st_size > 100
        True
    """
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError("export needs onnx and onnxscript: pip install 'yolo_lite[export]'") from error
    images = torch.zeros(2 if batch is None else batch, *shape, dtype=torch.uint8)  # 1 would be taken for a constant
    dynamic = {"images": {0: torch.export.Dim("batch", min=1, max=4096)}} if batch is None else None
    with warnings.catch_warnings(), _silent(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (images,),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=dynamic,
            input_names=["images"],
            output_names=list(outputs),
            custom_translation_table={CHOOSE: _choose(), SELECT: _select()},
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, text
    onnx.checker.check_model(model)
    onnx.save_model(model, str(path))


_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")  # operators whose second input is a weight
_LARGEST = 65504.0  # in float16


def store_float16(path: Path) -> None:
    """Store the weights of an ONNX file in float16; it still computes in float32.

    Each weight of a convolution or a linear layer is followed by a Cast, which runtimes carry out when they open the
    file. Biases, and weights beyond the range of float16, stay as they are.

    Args:
        path: the file, which is replaced.

    Example:
        >>> path = Path("layer.onnx")
        >>> layer = nn.Sequential(nn.Flatten(), nn.Linear(400, 100))
        >>> class Scores(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layer = layer
        ...     def forward(self, images):
        ...         return self.layer(images.float())
        >>> write_onnx(Scores(), path, shape=(20, 20, 1), outputs=["scores"], batch=None, text="{}")
        >>> before = path.stat().st_size
        >>> store_float16(path)
        >>> 75_000 < before - path.stat().st_size < 80_000
        True
    """
    import onnx

    model = onnx.load_model(str(path))
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    casts: dict[str, Any] = {}
    for node in graph.node:
        name = node.input[1] if node.op_type in _WEIGHTED and len(node.input) > 1 else ""
        if name in weights and name not in casts:
            values = onnx.numpy_helper.to_array(weights[name])
            if np.abs(values).max(initial=0) > _LARGEST:
                continue
            short = f"{name}_float16"
            weights[name].CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), short))
            casts[name] = onnx.helper.make_node("Cast", [short], [name], to=onnx.TensorProto.FLOAT)
    for cast in reversed(casts.values()):
        graph.node.insert(0, cast)
    onnx.checker.check_model(model)
    onnx.save_model(model, str(path))


@contextlib.contextmanager
def _silent() -> Any:
    """Keep the exporter from printing and logging."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def _choose() -> Callable[..., Any]:
    """Return the translation of `CHOOSE`: the points at which a logit of any image is above the limit, and point 0."""
    from onnxscript import opset18 as op

    def candidates(logits: Any, limit: float) -> Any:
        best = op.ReduceMax(logits, op.Constant(value_ints=[0, 2]), keepdims=0)  # [A]
        zero, step = op.Constant(value_int=0), op.Constant(value_int=1)
        is_first = op.Equal(op.Range(zero, op.Squeeze(op.Shape(best)), step), zero)  # so that no tensor is empty
        return op.Squeeze(
            op.NonZero(op.Or(op.Greater(best, op.Constant(value_float=limit)), is_first)), op.Constant(value_ints=[0])
        )

    return candidates


def _select() -> Callable[..., Any]:
    """Return the translation of `SELECT`: NonMaxSuppression, then the best detections of each image in rows."""
    import onnx
    from onnxscript import opset18 as op

    none = onnx.helper.make_tensor("none", onnx.TensorProto.INT64, [1, 3], [0, 0, 0])

    def select(boxes: Any, scores: Any, iou_threshold: float, score_threshold: float, max_detections: int) -> Any:
        by_class = op.Transpose(scores, perm=[0, 2, 1])  # [B, C, A]
        chosen = op.NonMaxSuppression(
            boxes,
            by_class,
            _ints(max_detections),
            op.Constant(value_floats=[float32_floor(iou_threshold)]),
            op.Constant(value_floats=[float32_floor(score_threshold)]),
        )  # [n, 3]: image, class, point
        # A last row stands for nothing, so that no tensor is ever empty; its score -1 sorts it to the end.
        chosen = op.Concat(chosen, op.Constant(value=none), axis=0)
        found = op.GatherND(by_class, chosen)
        places = op.Range(op.Constant(value_int=0), op.Squeeze(op.Shape(found)), op.Constant(value_int=1))
        is_real = op.Less(places, op.Sub(op.Shape(found), _ints(1)))
        found = op.Where(is_real, found, op.Constant(value_float=-1.0))
        values, order = op.TopK(found, op.Shape(found), axis=0, largest=1, sorted=1)
        rows = op.Gather(chosen, order, axis=0)
        at, counts = _places(rows, values, boxes, max_detections)
        batch = op.Shape(boxes, start=0, end=1)
        room = op.Concat(batch, _ints(max_detections + 1), axis=0)
        kept = op.GatherND(boxes, op.Concat(_column(rows, 0), _column(rows, 2), axis=1))
        labels = op.Squeeze(_column(rows, 1), _ints(1))
        zero = op.Constant(value_float=0.0)

        def laid_out(empty: Any, shape: Any, entries: Any) -> Any:
            filled = op.ScatterND(op.Expand(empty, shape), at, entries)
            return op.Slice(filled, _ints(0), _ints(max_detections), _ints(1))

        return (
            laid_out(zero, op.Concat(room, _ints(4), axis=0), kept),
            laid_out(zero, room, values),
            laid_out(op.Constant(value_int=0), room, labels),
            counts,
        )

    return select


def _places(rows: Any, values: Any, boxes: Any, most: int) -> tuple[Any, Any]:
    """Return where each row goes, [n, 2] image and rank in it, those too many at rank `most`; and the counts [B]."""
    from onnx import TensorProto
    from onnxscript import opset18 as op

    image = _column(rows, 0)
    batch = op.Squeeze(op.Shape(boxes, start=0, end=1))
    images = op.Unsqueeze(op.Range(op.Constant(value_int=0), batch, op.Constant(value_int=1)), _ints(0))
    is_real = op.Unsqueeze(op.Greater(values, op.Constant(value_float=-0.5)), _ints(1))
    belongs = op.Cast(op.And(op.Equal(image, images), is_real), to=TensorProto.INT64)  # [n, B]
    before = op.Sub(op.CumSum(belongs, op.Constant(value_int=0)), _ints(1))
    rank = op.ReduceSum(op.Mul(belongs, before), _ints(1), keepdims=1)
    rank = op.Where(is_real, op.Min(rank, _ints(most)), _ints(most))
    counts = op.Min(op.ReduceSum(belongs, _ints(0), keepdims=0), _ints(most))
    return op.Concat(image, rank, axis=1), op.Cast(counts, to=TensorProto.INT32)


def _ints(*values: int) -> Any:
    from onnxscript import opset18 as op

    return op.Constant(value_ints=list(values))


def _column(rows: Any, number: int) -> Any:
    from onnxscript import opset18 as op

    return op.Slice(rows, _ints(number), _ints(number + 1), _ints(1))
