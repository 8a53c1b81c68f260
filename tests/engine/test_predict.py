"""The Detector as a person uses it: any kind of picture in, boxes in original pixels out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from yolo_lite import Detections, Detector
from yolo_lite.engine.weights import DEFAULT_WEIGHTS, find_weights, shipped
from yolo_lite.errors import InputError


@pytest.fixture(scope="module")
def detector(learnt: tuple[Path, Path]) -> Detector:
    return Detector(learnt[0] / "best.pt", device="cpu")


@pytest.fixture
def picture(learnt: tuple[Path, Path]) -> Path:
    return learnt[1] / "images" / "0001.png"


def equal(a: Detections, b: Detections) -> bool:
    return all(np.array_equal(x, y) for x, y in ((a.boxes, b.boxes), (a.scores, b.scores), (a.labels, b.labels)))


def near(a: Detections, b: Detections) -> bool:
    return len(a) == len(b) and np.allclose(a.boxes, b.boxes, atol=0.05) and np.allclose(a.scores, b.scores, atol=1e-3)


def test_a_path_an_array_and_a_pil_image_are_the_same_picture(detector: Detector, picture: Path) -> None:
    array = np.array(Image.open(picture).convert("RGB"))
    found = detector(picture)
    assert len(found) == 2
    assert all(equal(found, detector(other)) for other in (str(picture), array, Image.open(picture)))


def test_boxes_are_where_the_shapes_were_drawn(detector: Detector, learnt: tuple[Path, Path]) -> None:
    """A bright shape on grey noise: the box must enclose exactly the pixels of its colour."""
    for file in sorted((learnt[1] / "images").iterdir()):
        pixels = np.array(Image.open(file)).astype(int)
        for one in detector(file):
            channel = 0 if one.names[0] == "disc" else 2
            mask = (pixels[..., channel] > 200) & (pixels[..., 2 - channel] < 60)
            x1, y1, x2, y2 = one.boxes[0]
            inside = mask[max(0, round(y1) - 3) : round(y2) + 3, max(0, round(x1) - 3) : round(x2) + 3]
            ys, xs = np.nonzero(inside)
            assert abs((xs.max() - xs.min() + 1) - (x2 - x1)) < 6
            assert abs((ys.max() - ys.min() + 1) - (y2 - y1)) < 6


def test_original_pixels_follow_the_picture_size(detector: Detector, picture: Path) -> None:
    small = Image.open(picture).convert("RGB")
    big = small.resize((small.width * 3, small.height * 3), Image.Resampling.NEAREST)
    one, three = detector(small), detector(big)
    assert len(one) == len(three)
    assert np.allclose(one.boxes * 3, three.boxes, atol=6)


def test_a_list_gives_a_list_in_order_whatever_the_batch(detector: Detector, learnt: tuple[Path, Path]) -> None:
    files = sorted((learnt[1] / "images").iterdir())[:5]
    alone = [detector(file) for file in files]
    small_batches = Detector(learnt[0] / "best.pt", device="cpu", batch_size=2)
    assert all(near(a, b) for a, b in zip(alone, small_batches(files), strict=True))
    assert detector([]) == []


def test_exif_rotation_turns_boxes_with_the_picture(detector: Detector, picture: Path, tmp_path: Path) -> None:
    upright = Image.open(picture).convert("RGB")
    lying = upright.transpose(Image.Transpose.ROTATE_90)  # which EXIF orientation 6, "turn clockwise", undoes
    exif = Image.Exif()
    exif[0x0112] = 6
    lying.save(tmp_path / "lying.png", exif=exif)
    assert near(detector(picture), detector(tmp_path / "lying.png"))


def test_classes_restrict_what_is_reported(learnt: tuple[Path, Path]) -> None:
    discs = Detector(learnt[0] / "best.pt", device="cpu", classes=["disc"])
    names = [name for found in discs(sorted((learnt[1] / "images").iterdir())) for name in found.names]
    assert set(names) == {"disc"}


def test_thresholds_are_strict(detector: Detector, learnt: tuple[Path, Path], picture: Path) -> None:
    nothing = Detector(learnt[0] / "best.pt", device="cpu", score_threshold=1.0)
    assert len(nothing(picture)) == 0
    assert not nothing(picture).boxes.size
    one = Detector(learnt[0] / "best.pt", device="cpu", max_detections=1)
    assert len(one(picture)) == 1
    assert one(picture).scores[0] == detector(picture).scores[0]


def test_the_input_array_is_not_modified(detector: Detector, picture: Path) -> None:
    array = np.array(Image.open(picture).convert("RGB"))
    before = array.copy()
    detector(array)
    assert np.array_equal(array, before)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((8, 8), np.uint8), r"uint8 \[height, width, 3\] in RGB order, got uint8 \[8, 8\]"),
        (np.zeros((8, 8, 3), np.float32), "got float32"),
        (np.zeros((0, 8, 3), np.uint8), r"got uint8 \[0, 8, 3\]"),
        (42, "a path, a NumPy array or a PIL image, got int"),
        ("none.jpg", "none.jpg does not exist"),
    ],
    ids=["grey", "float", "empty", "number", "missing"],
)
def test_what_is_no_picture_is_refused(detector: Detector, picture: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        detector(picture)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_threshold": 1.5}, "score_threshold must be from 0 to 1, got 1.5"),
        ({"image_size": (100, 128)}, "multiples of 32"),
        ({"classes": ["discs"]}, "did you mean 'disc'"),
        ({"device": "tpu"}, "--device must be one of"),
    ],
    ids=["threshold", "size", "class", "device"],
)
def test_a_setting_that_cannot_be_is_refused(
    learnt: tuple[Path, Path], options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Detector(learnt[0] / "best.pt", **options)  # type: ignore[arg-type]


def test_a_missing_gpu_is_said(learnt: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="no CUDA device is available"):
        Detector(learnt[0] / "best.pt", device="cuda")


def test_full_memory_says_what_to_do(detector: Detector, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(images: torch.Tensor) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(detector.model, "forward", full)
    with pytest.raises(InputError, match="ran out of memory; use a smaller batch size"):
        detector(picture)


def test_unknown_weights_name_the_shipped_ones() -> None:
    with pytest.raises(InputError, match=r"yolo_lite-n-voc6 does not exist.*did you mean 'yolo_lite-n-voc5'\?"):
        find_weights("yolo_lite-n-voc6")


def test_the_shipped_detector_finds_the_person() -> None:
    """matplotlib's sample photograph shows one woman, who fills most of it."""
    from yolo_lite.engine.detect import sample_picture

    found = Detector(device="cpu")(sample_picture())
    assert DEFAULT_WEIGHTS in shipped("weights", ".pt")
    assert found.names[0] == "person"
    x1, y1, x2, y2 = found.boxes[0]
    assert (x2 - x1) * (y2 - y1) > 0.4 * 512 * 606  # of a picture 512 wide and 606 high


def test_the_shipped_detector_finds_scikit_images_astronaut_and_cat() -> None:
    data = pytest.importorskip("skimage.data")
    detector = Detector(device="cpu")
    assert "person" in detector(data.astronaut()).names
    assert "cat" in detector(data.chelsea()).names
