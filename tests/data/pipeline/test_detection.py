"""Samples made from records: their boxes worked from the annotations, and files that do not fit them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from yolo_lite.config.schema import AugmentConfig
from yolo_lite.data.pipeline.augment import Augmenter
from yolo_lite.data.pipeline.detection import DetectionDataset
from yolo_lite.data.sizes import check_images, size_error
from yolo_lite.data.splits import read_split
from yolo_lite.errors import InputError
from yolo_lite.media.images import read_image, read_image_shrunk
from yolo_lite.structures.batches import Sample
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.geometry import resize_image
from yolo_lite.structures.records import ImageRecord

CocoSet = Callable[..., Path]


@pytest.fixture
def data(coco_set: CocoSet) -> DetectionSet:
    """Six drawn images, 96 high and 128 wide."""
    return read_split(coco_set({"train": 6}), "train")


def _same(one: Sample, other: Sample) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one[:3], other[:3])) and one.position == other.position


def test_samples_are_in_input_pixels_as_the_annotations_say(coco_set: CocoSet) -> None:
    """96 x 128 into 64 x 64: factor 64 / 128 = 0.5, content 48 x 64, (64 - 48) / 2 = 8 rows of grey above."""
    root = coco_set({"train": 6})
    content = json.loads((root / "annotations" / "instances_train.json").read_text())
    dataset = DetectionDataset(read_split(root, "train").records, (64, 64), resize="letterbox")
    assert len(dataset) == 6
    for index, image in enumerate(content["images"]):
        sample = dataset[0, index]
        mine = [row for row in content["annotations"] if row["image_id"] == image["id"]]
        expected = [[x / 2, y / 2 + 8, (x + w) / 2, (y + h) / 2 + 8] for x, y, w, h in (row["bbox"] for row in mine)]
        np.testing.assert_allclose(sample.boxes.numpy(), expected, atol=1e-4)
        assert sample.labels.tolist() == [{7: 0, 3: 1}[row["category_id"]] for row in mine]
        assert sample.position == index
        assert (sample.image.shape, sample.image.dtype) == ((3, 64, 64), torch.uint8)
        assert (sample.boxes.dtype, sample.labels.dtype) == (torch.float32, torch.int64)
        assert (sample.image[:, :8] == 114).all()
        assert (sample.image[:, 56:] == 114).all()
        for (x1, y1, x2, y2), label in zip(sample.boxes.tolist(), sample.labels.tolist()):
            centre = sample.image[:, int((y1 + y2) / 2), int((x1 + x2) / 2)]
            assert int(centre.argmax()) == (0, 2)[label]  # discs are painted red, squares blue


def test_a_sample_is_the_same_whenever_it_is_asked_for(data: DetectionSet) -> None:
    def build(seed: int) -> DetectionDataset:
        augmenter = Augmenter(AugmentConfig(), (64, 96), resize="letterbox")
        return DetectionDataset(
            data.records, (64, 96), resize="letterbox", augmenter=augmenter, strong_epochs=2, seed=seed
        )

    one, other = build(0), build(0)
    keys = [(epoch, index) for epoch in range(3) for index in range(3)]
    first = {key: one[key] for key in keys}
    for key in reversed(keys):
        assert _same(first[key], other[key])
    assert len({sample.image.numpy().tobytes() for sample in first.values()}) == len(keys)
    assert not _same(first[0, 0], build(1)[0, 0])


def test_strong_augmentation_ends_after_its_epochs(data: DetectionSet) -> None:
    seen: list[bool] = []

    class Spy(Augmenter):
        def __call__(self, *arguments: object, strong: bool) -> object:  # type: ignore[override]
            seen.append(strong)
            return super().__call__(*arguments, strong=strong)  # type: ignore[arg-type]

    augmenter = Spy(AugmentConfig(), (64, 64), resize="letterbox")
    dataset = DetectionDataset(data.records, (64, 64), resize="letterbox", augmenter=augmenter, strong_epochs=2)
    for epoch in range(4):
        dataset[epoch, 0]
    assert seen == [True, True, False, False]


def test_without_an_augmenter_every_epoch_is_alike(data: DetectionSet) -> None:
    dataset = DetectionDataset(data.records, (64, 64), resize="stretch", seed=3)
    assert _same(dataset[0, 1], dataset[9, 1])


def test_crowd_boxes_are_no_targets(data: DetectionSet) -> None:
    record = dataclasses.replace(data.records[0], crowd=np.array([True, False]))
    dataset = DetectionDataset([record], (96, 128), resize="letterbox")
    sample = dataset[0, 0]
    np.testing.assert_allclose(sample.boxes.numpy(), record.boxes[1:], atol=1e-4)
    assert sample.labels.tolist() == record.labels[1:].tolist()
    assert len(record.boxes) == 2


def test_an_image_without_objects_has_boxes_of_length_0(data: DetectionSet) -> None:
    record = dataclasses.replace(data.records[0], crowd=np.array([True, True]))
    for augmenter in (None, Augmenter(AugmentConfig(mosaic=0), (64, 64), resize="letterbox")):
        sample = DetectionDataset([record], (64, 64), resize="letterbox", augmenter=augmenter, strong_epochs=1)[0, 0]
        assert sample.boxes.shape == (0, 4)
        assert sample.labels.shape == (0,)


def test_load_gives_original_pixels(data: DetectionSet) -> None:
    made = DetectionDataset(data.records, (64, 64), resize="letterbox").load(2)
    with Image.open(data.records[2].path) as picture:
        np.testing.assert_array_equal(made.image, np.asarray(picture))
    np.testing.assert_array_equal(made.boxes, data.records[2].boxes)
    assert made.boxes.dtype == np.float32


# Images that are larger than the network can make use of, and images kept in memory


def _augmenter(config: AugmentConfig, hw: tuple[int, int], resize: str = "letterbox") -> Augmenter:
    return Augmenter(config, hw, resize=resize)


NOTHING = AugmentConfig(mosaic=0, scale=(1, 1), translate=0, flip=0, hue=0, saturation=0, value=0, off_last=0)


@pytest.mark.parametrize(
    ("config", "working_hw"),
    [
        pytest.param(
            AugmentConfig(mosaic=0.5, scale=(0.5, 1.5)), (96, 144), id="a mosaic shows images 1.5 times as large"
        ),
        pytest.param(AugmentConfig(mosaic=0, scale=(0.5, 1.5)), (64, 96), id="what enlarges the input adds no pixels"),
        pytest.param(
            AugmentConfig(mosaic=1, scale=(0.2, 0.5)), (64, 96), id="near the end of training there is no mosaic"
        ),
        pytest.param(AugmentConfig(mosaic=1, scale=(1, 1.01)), (65, 97), id="rounded up"),
    ],
)
def test_the_working_size_is_what_the_augmentation_can_show(config: AugmentConfig, working_hw: tuple[int, int]) -> None:
    assert _augmenter(config, (64, 96)).working_hw == working_hw


def test_large_images_are_reduced_with_their_boxes(data: DetectionSet) -> None:
    """96 x 128 for an input of 32 x 32 and mosaics up to twice that: into 64 x 64 fit 48 x 64, means of 2 x 2 pixels."""
    dataset = DetectionDataset(
        data.records, (32, 32), resize="letterbox", augmenter=_augmenter(AugmentConfig(scale=(0.5, 2)), (32, 32))
    )
    made, record = dataset.load(2), data.records[2]
    with Image.open(record.path) as picture:
        blocks = np.asarray(picture, np.float64).reshape(48, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(made.image - blocks).max() <= 0.5
    np.testing.assert_allclose(made.boxes, record.boxes / 2)
    assert made.labels.tolist() == record.labels.tolist()


@pytest.mark.parametrize(
    ("hw", "input_hw", "resize", "expected"),
    [
        pytest.param((96, 128), (96, 128), "letterbox", (96, 128), id="of that size"),
        pytest.param((96, 128), (96, 160), "letterbox", (96, 128), id="smaller"),
        pytest.param((960, 96), (320, 320), "letterbox", (320, 32), id="tall"),
        pytest.param((96, 640), (320, 320), "stretch", (96, 640), id="stretched, but larger on one side only"),
        pytest.param((480, 640), (320, 320), "stretch", (320, 320), id="stretched"),
        pytest.param((1, 9000), (320, 320), "letterbox", (1, 320), id="a line"),
    ],
)
def test_images_are_reduced_to_these_sizes(
    hw: tuple[int, int], input_hw: tuple[int, int], resize: str, expected: tuple[int, int]
) -> None:
    assert (
        DetectionDataset([], input_hw, resize=resize, augmenter=_augmenter(NOTHING, input_hw, resize)).working_size(hw)
        == expected
    )
    assert DetectionDataset([], input_hw, resize=resize).working_size(hw) == hw


@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
@pytest.mark.parametrize("kept", [False, True])
def test_without_a_mosaic_a_large_image_becomes_what_it_would_at_once(
    coco_set: CocoSet, kept: bool, resize: str
) -> None:
    """Bit for bit, boxes too: reducing beforehand is then no change at all. The sides are odd on purpose."""
    many = np.random.default_rng(0).uniform(0, 330, (4, 999, 2)).repeat(2, -1)  # points; one or two round differently
    drawn = read_split(coco_set({"train": 4}, hw=(333, 517)), "train").records
    others = {"labels": np.zeros(999, np.int64), "crowd": np.zeros(999, bool), "areas": np.zeros(999)}
    others["numbers"] = np.arange(999)
    records = [dataclasses.replace(one, boxes=some, **others) for one, some in zip(drawn, many)]
    whole = DetectionDataset(records, (96, 160), resize=resize)
    reduced = DetectionDataset(
        records, (96, 160), resize=resize, augmenter=_augmenter(NOTHING, (96, 160), resize), strong_epochs=1
    )
    if kept:
        reduced.keep("ram", lambda line: None)
    assert reduced.load(0).image.shape[0] <= 96 < whole.load(0).image.shape[0]
    for index in range(len(records)):
        assert _same(whole[0, index], reduced[0, index])


@pytest.mark.parametrize("hw", [(96, 128), (333, 517)], ids=["small", "large"])
def test_kept_images_give_the_same_bits(coco_set: CocoSet, hw: tuple[int, int]) -> None:
    records = read_split(coco_set({"train": 5}, hw=hw), "train").records

    def build(choice: str) -> DetectionDataset:
        augmenter = _augmenter(AugmentConfig(), (96, 96))
        dataset = DetectionDataset(records, (96, 96), resize="letterbox", augmenter=augmenter, strong_epochs=2, seed=7)
        dataset.keep(choice, lambda line: None)
        return dataset

    kept, decoded = build("ram"), build("none")
    assert kept.kept is not None
    assert decoded.kept is None
    for epoch in range(3):
        for index in (4, 0, 2, 1, 3):
            assert _same(kept[epoch, index], decoded[epoch, index])


def test_kept_images_are_not_read_again(data: DetectionSet) -> None:
    dataset = DetectionDataset(data.records, (64, 64), resize="letterbox")
    dataset.keep("ram", lambda line: None)
    for record in data.records:
        record.path.unlink()
    assert dataset[0, 3].image.shape == (3, 64, 64)


@pytest.mark.parametrize("kept", [False, True])
def test_a_large_jpeg_is_decoded_smaller_and_hardly_differs(tmp_path: Path, kept: bool) -> None:
    """512 x 512 for an input of 64 x 64: decoded at 1/4, twice the working size. Turned by its EXIF, too."""
    astronaut = pytest.importorskip("skimage.data").astronaut()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(astronaut)[:, 64:448]).save(tmp_path / "a.jpg", quality=85, exif=exif)
    upright = read_image(tmp_path / "a.jpg")
    assert upright.shape == (384, 512, 3)
    record = ImageRecord(
        tmp_path / "a.jpg",
        1,
        hw=(384, 512),
        boxes=np.array([[8.0, 16, 80, 96]]),
        labels=np.array([0]),
        crowd=np.array([False]),
        areas=np.array([5760.0]),
    )
    dataset = DetectionDataset([record], (64, 64), resize="letterbox", augmenter=_augmenter(NOTHING, (64, 64)))
    if kept:
        dataset.keep("ram", lambda line: None)
    made = dataset.load(0)
    quarter = read_image_shrunk(record.path, 4)[0]
    assert quarter.shape == (96, 128, 3)
    np.testing.assert_array_equal(made.image, resize_image(quarter, (48, 64)))
    means = upright.astype(np.float64).reshape(48, 8, 64, 8, 3).mean((1, 3))
    assert 0.05 < np.abs(made.image - means).mean() < 1.5
    np.testing.assert_allclose(made.boxes, [[1, 2, 10, 12]])
    wrong = dataclasses.replace(record, hw=(512, 512))
    with pytest.raises(
        InputError, match="is 512 x 384 .after any EXIF rotation., but its annotations are for 512 x 512"
    ):
        DetectionDataset([wrong], (64, 64), resize="letterbox", augmenter=_augmenter(NOTHING, (64, 64))).load(0)


def test_keeping_names_the_image_that_is_damaged_or_of_another_size(data: DetectionSet) -> None:
    dataset = DetectionDataset(data.records, (64, 64), resize="letterbox", augmenter=_augmenter(NOTHING, (64, 64)))
    _resave(data.records[4].path, (64, 48))
    with pytest.raises(InputError) as caught:
        dataset.keep("auto", lambda line: None)
    assert str(caught.value) == str(size_error(data.records[4], (48, 64)))
    path = data.records[3].path
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError) as caught:
        dataset.keep("auto", lambda line: None)
    assert str(path) in str(caught.value)


# Files that do not fit


def _resave(path: Path, size: tuple[int, int], orientation: int = 1) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size).save(path, exif=exif)


def test_an_image_of_another_size_is_refused(data: DetectionSet) -> None:
    """The annotations are for 128 x 96 (width x height)."""
    path = data.records[1].path
    _resave(path, (64, 48))
    expected = f"{path} is 64 x 48 (after any EXIF rotation), but its annotations are for 128 x 96"
    with pytest.raises(InputError) as caught:
        DetectionDataset(data.records, (64, 64), resize="letterbox")[0, 1]
    assert expected in str(caught.value)
    with pytest.raises(InputError) as caught:
        check_images(data)
    assert expected in str(caught.value)
    assert str(size_error(data.records[1], (48, 64))) == str(caught.value)


def test_sizes_are_compared_upright(data: DetectionSet) -> None:
    """Stored 96 wide and 128 high, and turned by a quarter: 128 wide and 96 high. Turned the other way round: not."""
    _resave(data.records[1].path, (96, 128), orientation=6)
    check_images(data)
    assert DetectionDataset(data.records, (64, 64), resize="letterbox")[0, 1].image.shape == (3, 64, 64)
    _resave(data.records[1].path, (128, 96), orientation=6)
    with pytest.raises(InputError, match="is 96 x 128"):
        check_images(data)


def test_check_images_counts_the_missing(data: DetectionSet) -> None:
    check_images(data)
    data.records[1].path.unlink()
    data.records[4].path.unlink()
    with pytest.raises(InputError) as caught:
        check_images(data)
    message = str(caught.value)
    assert message.startswith(f"{data.source} lists 6 images, of which 2 are missing")
    assert message.endswith(str(data.records[1].path))
    assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is empty (0 bytes)"), (b"words", "is not an image")], ids=["empty", "text"]
)
def test_check_images_names_the_first_that_is_no_image(data: DetectionSet, content: bytes, message: str) -> None:
    data.records[3].path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        check_images(data)
    assert f"{data.records[3].path} {message}" in str(caught.value)


def test_a_damaged_image_is_named_when_it_is_loaded(data: DetectionSet) -> None:
    path = data.records[3].path
    path.write_bytes(path.read_bytes()[:2000])
    dataset = DetectionDataset(data.records, (64, 64), resize="letterbox")
    with pytest.raises(InputError) as caught:
        dataset[0, 3]
    assert str(path) in str(caught.value)
