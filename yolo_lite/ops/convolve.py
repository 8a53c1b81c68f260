"""The convolution of one image with one kernel, written out. Every layer of a CNN does this many times over."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def convolve(image: Tensor, kernel: Tensor, *, stride: int = 1, padding: int = 0) -> Tensor:
    """Slide a kernel over an image, and at each place sum the products of the numbers that cover each other.

    As in every CNN the kernel is not flipped first; strictly speaking this is a cross-correlation.

    Args:
        image: [..., H, W], any numbers.
        kernel: [k, l], of the same dtype.
        stride: pixels from one place to the next.
        padding: rows and columns of zeros added on every side.

    Returns:
        [..., (H + 2 padding - k) // stride + 1, (W + 2 padding - l) // stride + 1].

    Raises:
        ValueError: if the kernel is no matrix or does not fit into the image, or if stride or padding is out of range.

    Example:
        >>> convolve(torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([[1, -1]]))  # each pixel minus its right one
        tensor([[-1, -1],
                [-1, -1]])
    """
    if kernel.ndim != 2 or image.ndim < 2:
        raise ValueError(
            f"kernel must be [k, l] and image [..., H, W], got {list(kernel.shape)} and {list(image.shape)}"
        )
    if stride < 1 or padding < 0:
        raise ValueError(f"stride must be at least 1 and padding at least 0, got {stride} and {padding}")
    image = F.pad(image, (padding,) * 4)
    rows, columns = (image.shape[-2 + i] - kernel.shape[i] + 1 for i in range(2))
    if rows < 1 or columns < 1 or 0 in kernel.shape:
        raise ValueError(
            f"a kernel of {list(kernel.shape)} does not fit into {list(image.shape[-2:])}, padding included"
        )
    result = image.new_zeros(*image.shape[:-2], rows, columns)
    for y, weights in enumerate(kernel):
        for x, weight in enumerate(weights):
            result += weight * image[..., y : y + rows, x : x + columns]
    return result[..., ::stride, ::stride]
