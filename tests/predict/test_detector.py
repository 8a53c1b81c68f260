"""The Detector as a person uses it: any kind of image in, boxes in original pixels out."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import SMALL, write_coco_set
from yolo_lite import Detections, Detector
from yolo_lite.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from yolo_lite.config.resolve import override_config, read_config
from yolo_lite.data.splits import read_split
from yolo_lite.errors import InputError
from yolo_lite.evaluation.detector import detect_split
from yolo_lite.inspect.grid import grids_of
from yolo_lite.media.images import read_image
from yolo_lite.models.build import build_detector
from yolo_lite.predict.files import detect_images
from yolo_lite.shipped import DEFAULT_WEIGHTS, find_weights, shipped
from yolo_lite.structures.tiles import Tiling, detect_in_tiles
from yolo_lite.training.pretrain import pretraining_of
from yolo_lite.training.task import Listener
from yolo_lite.training.tasks.classification import ClassificationTask
from yolo_lite.training.tasks.detection import DetectionTask


@pytest.fixture(scope="module")
def detector(finished_run: tuple[Path, Path]) -> Detector:
    return Detector(finished_run[0] / "best.pt", device="cpu")


@pytest.fixture
def image(finished_run: tuple[Path, Path]) -> Path:
    return finished_run[1] / "images" / "0001.png"


def equal(a: Detections, b: Detections) -> bool:
    return all(np.array_equal(x, y) for x, y in ((a.boxes, b.boxes), (a.scores, b.scores), (a.labels, b.labels)))


def near(a: Detections, b: Detections) -> bool:
    return len(a) == len(b) and np.allclose(a.boxes, b.boxes, atol=0.05) and np.allclose(a.scores, b.scores, atol=1e-3)


def test_a_path_an_array_and_a_pil_image_are_the_same_image(detector: Detector, image: Path) -> None:
    array = np.array(Image.open(image).convert("RGB"))
    found = detector(image)
    assert len(found) == 2
    assert all(equal(found, detector(other)) for other in (str(image), array, Image.open(image)))


def test_boxes_are_where_the_shapes_were_drawn(detector: Detector, finished_run: tuple[Path, Path]) -> None:
    """A bright shape on grey noise: the box must enclose exactly the pixels of its colour."""
    for file in sorted((finished_run[1] / "images").iterdir()):
        pixels = np.array(Image.open(file)).astype(int)
        for one in detector(file):
            channel = 0 if one.names[0] == "disc" else 2
            mask = (pixels[..., channel] > 200) & (pixels[..., 2 - channel] < 60)
            x1, y1, x2, y2 = one.boxes[0]
            inside = mask[max(0, round(y1) - 3) : round(y2) + 3, max(0, round(x1) - 3) : round(x2) + 3]
            ys, xs = np.nonzero(inside)
            assert abs((xs.max() - xs.min() + 1) - (x2 - x1)) < 6
            assert abs((ys.max() - ys.min() + 1) - (y2 - y1)) < 6


def test_original_pixels_follow_the_image_size(detector: Detector, image: Path) -> None:
    small = Image.open(image).convert("RGB")
    big = small.resize((small.width * 3, small.height * 3), Image.Resampling.NEAREST)
    one, three = detector(small), detector(big)
    assert len(one) == len(three)
    assert np.allclose(one.boxes * 3, three.boxes, atol=6)


def test_a_list_gives_a_list_in_order_whatever_the_batch(detector: Detector, finished_run: tuple[Path, Path]) -> None:
    files = sorted((finished_run[1] / "images").iterdir())[:5]
    alone = [detector(file) for file in files]
    small_batches = Detector(finished_run[0] / "best.pt", device="cpu", batch_size=2)
    assert all(near(a, b) for a, b in zip(alone, small_batches(files), strict=True))
    assert detector([]) == []


def test_exif_rotation_turns_boxes_with_the_image(detector: Detector, image: Path, tmp_path: Path) -> None:
    upright = Image.open(image).convert("RGB")
    lying = upright.transpose(Image.Transpose.ROTATE_90)  # which EXIF orientation 6, "turn clockwise", undoes
    exif = Image.Exif()
    exif[0x0112] = 6
    lying.save(tmp_path / "lying.png", exif=exif)
    assert near(detector(image), detector(tmp_path / "lying.png"))


def test_classes_restrict_what_is_reported(finished_run: tuple[Path, Path]) -> None:
    discs = Detector(finished_run[0] / "best.pt", device="cpu", classes=["disc"])
    names = [name for found in discs(sorted((finished_run[1] / "images").iterdir())) for name in found.names]
    assert set(names) == {"disc"}


def test_thresholds_are_strict(detector: Detector, finished_run: tuple[Path, Path], image: Path) -> None:
    nothing = Detector(finished_run[0] / "best.pt", device="cpu", score_threshold=1.0)
    assert len(nothing(image)) == 0
    assert not nothing(image).boxes.size
    one = Detector(finished_run[0] / "best.pt", device="cpu", max_detections=1)
    assert len(one(image)) == 1
    assert one(image).scores[0] == detector(image).scores[0]


@pytest.mark.parametrize("most", [10**9, 10**30])
def test_more_detections_than_there_can_be_are_no_fault(
    most: int, detector: Detector, finished_run: tuple[Path, Path], image: Path
) -> None:
    """Room for 10 ** 9 rows would take 24 GB; the second number fits no tensor's shape."""
    unbounded = Detector(finished_run[0] / "best.pt", device="cpu", max_detections=most)
    assert unbounded(image).scores.tolist() == detector(image).scores.tolist()


def test_the_input_array_is_not_modified(detector: Detector, image: Path) -> None:
    array = np.array(Image.open(image).convert("RGB"))
    before = array.copy()
    detector(array)
    assert np.array_equal(array, before)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8), np.uint8), r"uint8 \[height, width, 3\] in RGB order, got uint8 \[8, 8\]"),
        (np.zeros((8, 8, 3), np.float32), "got float32"),
        (np.zeros((0, 8, 3), np.uint8), r"got uint8 \[0, 8, 3\]"),
        (42, "a path, a NumPy array or a PIL image, got int"),
        ("none.jpg", "none.jpg does not exist"),
    ],
    ids=["grey", "float", "empty", "number", "missing"],
)
def test_what_is_no_image_is_refused(detector: Detector, image: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        detector(image)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_threshold": 1.5}, "score_threshold must be from 0 to 1, got 1.5"),
        ({"image_size": (100, 128)}, "multiples of 32"),
        ({"classes": ["discs"]}, "did you mean 'disc'"),
        ({"device": "tpu"}, "the device must be one of"),
    ],
    ids=["threshold", "size", "class", "device"],
)
def test_a_setting_that_cannot_be_is_refused(
    finished_run: tuple[Path, Path], options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Detector(finished_run[0] / "best.pt", **options)  # type: ignore[arg-type]


def test_a_missing_gpu_is_said(finished_run: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="no CUDA device is available"):
        Detector(finished_run[0] / "best.pt", device="cuda")


def test_full_memory_says_what_to_do(detector: Detector, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(images: torch.Tensor) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(detector.model, "forward", full)
    with pytest.raises(InputError, match="ran out of memory; use a smaller batch size"):
        detector(image)


def test_unknown_weights_name_the_shipped_ones() -> None:
    with pytest.raises(InputError, match=r"yolo_lite-n-voc6 does not exist.*did you mean 'yolo_lite-n-voc5'\?"):
        find_weights("yolo_lite-n-voc6")


def test_the_shipped_detector_finds_the_person() -> None:
    """matplotlib's sample photograph shows one woman, who fills most of it."""
    from yolo_lite.predict.files import sample_image

    found = Detector(device="cpu")(sample_image())
    assert DEFAULT_WEIGHTS in shipped("weights", ".pt")
    assert found.names[0] == "person"
    x1, y1, x2, y2 = found.boxes[0]
    assert (x2 - x1) * (y2 - y1) > 0.4 * 512 * 606  # of an image 512 wide and 606 high


def test_the_shipped_detector_finds_scikit_images_astronaut_and_cat() -> None:
    data = pytest.importorskip("skimage.data")
    detector = Detector(device="cpu")
    assert "person" in detector(data.astronaut()).names
    assert "cat" in detector(data.chelsea()).names


# Images of 16 bits


def as_12_bits(source: Path, target: Path) -> Path:
    """Write an image with the values of a 12-bit camera: 16 for each of 8 bits."""
    cv2.imwrite(str(target), np.asarray(Image.open(source).convert("L")).astype(np.uint16) * 16)
    return target


@pytest.fixture
def deep(finished_run: tuple[Path, Path], image: Path, tmp_path: Path) -> tuple[Detector, Path, Path]:
    """Return a detector that was trained with input.max_16bit=4095, and one image in 8 and in 12 bits."""
    checkpoint = load_checkpoint(finished_run[0] / "best.pt")
    config = override_config(checkpoint.config, {"input.max_16bit": 4095})
    save_checkpoint(tmp_path / "deep.pt", dataclasses.replace(checkpoint, config=config))
    Image.open(image).convert("L").save(tmp_path / "8.png")
    detector = Detector(tmp_path / "deep.pt", device="cpu", score_threshold=0.001)  # it tells shapes by their colours
    return detector, tmp_path / "8.png", as_12_bits(image, tmp_path / "12.png")


def test_a_detector_reads_16_bits_as_its_training_did(deep: tuple[Detector, Path, Path]) -> None:
    detector, eight, twelve = deep
    assert len(detector(eight))
    assert equal(detector(twelve), detector(eight))
    assert equal(detector([twelve])[0], detector(eight))
    assert equal(detector(Image.open(twelve)), detector(eight))
    assert np.array_equal(grids_of(detector, twelve)[0], grids_of(detector, eight)[0])


def test_detection_in_files_reads_16_bits_as_training_did(deep: tuple[Detector, Path, Path], tmp_path: Path) -> None:
    detector, eight, twelve = deep
    found = {one.path: one.detections for one in detect_images(detector, [eight, twelve], out=tmp_path / "out")}
    first, second = found[eight], found[twelve]
    assert first is not None
    assert second is not None
    assert equal(first, second)


def test_training_and_evaluation_read_16_bits_alike(tmp_path: Path) -> None:
    """A set in 8 bits and its twin in 12: the same inputs, and the same inputs for the backbone's crops."""
    sets = [write_coco_set(tmp_path / name, {"train": 4, "val": 2}) for name in ("eight", "twelve")]
    for file in [*sets[0].rglob("*.png"), *sets[1].rglob("*.png")]:
        if sets[0] in file.parents:
            Image.open(file).convert("L").save(file)
        else:
            as_12_bits(file, file)
    config = override_config(
        read_config(None), (*SMALL, "input.max_16bit=4095", "train.cache=none", "pretrain.crops=1")
    )
    inputs, cpu = [], torch.device("cpu")
    for root in sets:
        asked = override_config(config, {"data.path": root})
        task = DetectionTask.prepare(asked, start=None, device=cpu, listener=Listener())
        crops = ClassificationTask.prepare(pretraining_of(asked), start=None, device=cpu, listener=Listener())
        shown = task.predictions(task.model.eval())
        inputs.append([task.dataset[0, 1].image, crops.dataset[0, 1].image, torch.from_numpy(shown[0].image.copy())])
    assert all(torch.equal(one, other) for one, other in zip(*inputs))
    assert all(float(one.float().std()) > 5 for one in inputs[1])  # something is to be seen in them
    rows = [
        detect_split(
            build_detector(config, 2, seed=0).eval(),
            read_split(root, "val"),
            class_names=("disc", "square"),
            config=config,
            device=cpu,
        )[0]
        for root in sets
    ]
    assert rows[0] == rows[1]
    assert rows[0]


def test_overlap_and_number_of_detections_are_those_of_the_weights_unless_set(finished_run: tuple[Path, Path]) -> None:
    checkpoint = load_checkpoint(finished_run[0] / "best.pt")
    given = {"postprocess.iou_threshold": 0.3, "postprocess.max_detections": 1}
    changed = dataclasses.replace(checkpoint, config=override_config(checkpoint.config, given))
    detector = Detector(changed, "cpu")
    assert (detector.iou_threshold, detector.max_detections) == (0.3, 1)
    detector = Detector(changed, "cpu", iou_threshold=0.5, max_detections=2)
    assert (detector.iou_threshold, detector.max_detections) == (0.5, 2)
    detector = Detector(checkpoint, "cpu")
    assert (detector.iou_threshold, detector.max_detections) == (0.6, 300)


def test_detections_score_above_what_the_weights_say_unless_told_otherwise(finished_run: tuple[Path, Path]) -> None:
    checkpoint = load_checkpoint(finished_run[0] / "best.pt")
    stored = checkpoint.about["score_threshold"]
    assert 0 < stored < 1
    assert Detector(checkpoint, "cpu").score_threshold == stored
    assert Detector(checkpoint, "cpu", score_threshold=0.5).score_threshold == 0.5
    fixed = override_config(checkpoint.config, {"postprocess.score_threshold": 0.7})
    assert Detector(dataclasses.replace(checkpoint, config=fixed), "cpu").score_threshold == 0.7
    silent = {name: value for name, value in checkpoint.about.items() if name != "score_threshold"}
    assert Detector(dataclasses.replace(checkpoint, about=silent), "cpu").score_threshold == 0.25
    assert Detector(device="cpu").score_threshold == 0.36  # of the shipped weights; see weights/README.md


def test_tiles_find_what_is_too_small_in_the_whole_image(detector: Detector, finished_run: tuple[Path, Path]) -> None:
    """Known images far apart in a large grey one: small in the whole, of the known size in their tiles."""
    known = [read_image(file) for file in sorted((finished_run[1] / "images").iterdir()) if file.suffix == ".png"]
    known = [image for image in known if image.shape == (96, 128, 3)][:2]
    large = np.full((6 * 96, 6 * 128, 3), 120, np.uint8)
    expected = []
    for image, (row, column) in zip(known, ((0, 0), (5, 4))):
        y, x = row * 96, column * 128
        large[y : y + 96, x : x + 128] = image
        for box in detector(image).boxes:
            sides, distances = box[2:] - box[:2], [*box[:2], *([128, 96] - box[2:])]
            if (sides < [60, 45]).all() and min(distances) > 3:  # neither long for the tile nor cut by it
                expected.append(box + np.float32([x, y, x, y]))
    assert len(expected) >= 2
    found = Detector(detector.weights, device="cpu", tiles=Tiling("6x6", overlap=0))(large)
    assert all(np.abs(found.boxes - box).max(1).min() < 0.1 for box in expected)
    assert len(detector(large)) < len(expected)


def test_one_tile_is_plain_detection(detector: Detector, image: Path) -> None:
    for tiles in ("1x1", 4000):
        assert equal(Detector(detector.weights, device="cpu", tiles=tiles)(image), detector(image))


@pytest.mark.parametrize("tiles", ["2", 8, "a2x2", 2.5])
def test_tiles_that_make_no_sense_are_refused(detector: Detector, tiles: object) -> None:
    with pytest.raises(InputError, match=r"tiles (must be|of a)|side of tiles"):
        Detector(detector.weights, device="cpu", tiles=tiles)  # type: ignore[arg-type]


def test_tiles_and_mirrored_images_go_together(detector: Detector, image: Path) -> None:
    """Each tile is looked at mirrored as well: what a mirroring detector sees in the tiles, merged."""
    mirroring = Detector(detector.weights, device="cpu", tta=True)
    tiling = Tiling("2x2", overlap=0.5)
    (expected,) = detect_in_tiles(
        [read_image(image)],
        lambda crops: mirroring(list(crops)),
        tiling=tiling,
        batch_size=8,
        iou_threshold=detector.iou_threshold,
        max_detections=detector.max_detections,
    )
    assert near(Detector(detector.weights, device="cpu", tta=True, tiles=tiling)(image), expected)
    assert not near(Detector(detector.weights, device="cpu", tiles=tiling)(image), expected)


def test_tiles_read_a_large_tiff_in_parts(
    detector: Detector, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a lower limit, the image is too large: the same is found as in tiles of the whole."""
    path = tmp_path / "large.tif"
    with Image.open(image) as opened:
        opened.convert("RGB").resize((512, 384)).save(path)
    tiled = Detector(detector.weights, device="cpu", tiles=256)
    expected = tiled(path)
    monkeypatch.setattr("yolo_lite.media.images.MAX_PIXELS", 1000)
    assert equal(tiled(path), expected)
    assert [equal(found, expected) for found in tiled([path, path])] == [True, True]
    with pytest.raises(InputError, match="has more than 1,000 pixels"):
        detector(path)
    with pytest.raises(InputError, match="cannot be read in parts: it is not a TIFF"):
        tiled(image)
