"""The compiled module ops/kernels/native.c, which is there where a compiler was at hand at installation."""

import numpy as np
import numpy.typing as npt

_Float32 = npt.NDArray[np.float32]
_Map = npt.NDArray[np.float32] | npt.NDArray[np.int16]
_Int32 = npt.NDArray[np.int32]
_Int64 = npt.NDArray[np.int64]

PARALLEL: int  # 1 where norm_silu_* and depthwise_backward use several threads
DEPTHWISE: int  # 1 where depthwise_backward runs

def nms_padded(
    boxes: _Float32 | npt.NDArray[np.float64],
    scores: _Float32,
    labels: _Int64 | None,
    iou_threshold: float,
    score_threshold: float,
    indices: _Int64,
    counts: _Int32,
    /,
) -> None: ...
def task_aligned(
    scores: _Float32,
    boxes: _Float32,
    points: _Float32,
    grown: _Float32,
    targets: _Float32,
    labels: _Int64,
    top_k: int,
    alpha: int,
    beta: int,
    box_index: _Int64,
    target_score: _Float32,
    /,
) -> None: ...
def norm_silu_forward(
    x: _Map,
    bfloat16: bool,
    weight: _Float32,
    bias: _Float32,
    eps: float,
    threads: int,
    y: _Map,
    means: _Float32,
    variances: _Float32,
    /,
) -> None: ...
def norm_silu_backward(
    x: _Map,
    dy: _Map,
    bfloat16: bool,
    weight: _Float32,
    bias: _Float32,
    means: _Float32,
    variances: _Float32,
    eps: float,
    threads: int,
    dx: _Map,
    d_weight: _Float32,
    d_bias: _Float32,
    /,
) -> None: ...
def depthwise_backward(
    x: _Map,
    dy: _Map,
    bfloat16: bool,
    weight: _Float32,
    stride: int,
    threads: int,
    dx: _Map,
    d_weight: _Float32,
    d_bias: _Float32,
    /,
) -> None: ...
