"""Convolution against a sum worked by hand and against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from yolo_lite.ops import convolve

LAPLACIAN = torch.tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
IMAGE = torch.tensor(
    [
        [95, 242, 186, 152, 39],
        [39, 14, 220, 153, 180],
        [5, 247, 212, 54, 46],
        [46, 77, 133, 110, 74],
        [156, 35, 74, 93, 116],
    ]
)


def test_the_laplacian_of_a_small_image() -> None:
    """The first value by hand: 242 + 39 + 220 + 247 - 4 * 14 = 692; the others likewise, from a course's worked sheet."""
    assert convolve(IMAGE, LAPLACIAN).tolist() == [[692, -315, -6], [-680, -194, 305], [153, -59, -86]]


def test_stride_two_takes_every_other_place() -> None:
    assert convolve(IMAGE, LAPLACIAN, stride=2).tolist() == [[692, -6], [153, -86]]


def test_padding_adds_a_border_of_zeros() -> None:
    """From the same sheet; the corner by hand: 242 + 39 - 4 * 95 = -99."""
    padded = convolve(IMAGE, LAPLACIAN, padding=1)
    assert padded.shape == (5, 5)
    assert padded[0].tolist() == [-99, -673, -130, -230, 176]
    assert torch.equal(padded[1:-1, 1:-1], convolve(IMAGE, LAPLACIAN))


@pytest.mark.parametrize(
    ("kernel_hw", "stride", "padding"), [((1, 1), 1, 0), ((3, 2), 2, 1), ((2, 5), 3, 2), ((6, 7), 1, 0)]
)
def test_convolution_agrees_with_four_loops(kernel_hw: tuple[int, int], stride: int, padding: int) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, 6, 7, generator=generator, dtype=torch.float64)
    kernel = torch.randn(*kernel_hw, generator=generator, dtype=torch.float64)
    k, m = kernel_hw
    padded = np.pad(image.numpy(), ((0, 0), (padding, padding), (padding, padding)))
    height, width = (padded.shape[1] - k) // stride + 1, (padded.shape[2] - m) // stride + 1
    expected = np.zeros((2, height, width))
    for n in range(2):
        for y in range(height):
            for x in range(width):
                for i in range(k):
                    for j in range(m):
                        expected[n, y, x] += padded[n, y * stride + i, x * stride + j] * kernel[i, j].item()
    found = convolve(image, kernel, stride=stride, padding=padding)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_the_image_stays_as_it_is() -> None:
    before = IMAGE.clone()
    convolve(IMAGE, LAPLACIAN, padding=2)
    assert torch.equal(IMAGE, before)


@pytest.mark.parametrize(
    ("shape", "kernel", "stride", "padding", "message"),
    [
        ((5, 5), (3,), 1, 0, r"kernel must be \[k, l\]"),
        ((5,), (3, 3), 1, 0, r"image \[..., H, W\]"),
        ((5, 5), (3, 3), 0, 0, "stride must be at least 1"),
        ((5, 5), (3, 3), 1, -1, "padding at least 0"),
        ((5, 5), (6, 3), 1, 0, "does not fit"),
        ((5, 5), (0, 3), 1, 0, "does not fit"),
    ],
)
def test_what_makes_no_sense_is_refused(
    shape: tuple[int, ...], kernel: tuple[int, ...], stride: int, padding: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        convolve(torch.zeros(shape), torch.zeros(kernel), stride=stride, padding=padding)
