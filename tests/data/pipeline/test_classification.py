"""Images to classify on their way into the network: decoding, cutting out, fitting, augmentation, batches."""

from __future__ import annotations

import io
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from yolo_lite.config.resolve import config_from_dict
from yolo_lite.config.schema import AugmentConfig
from yolo_lite.data.class_catalog import read_class_splits
from yolo_lite.data.pipeline import classification as class_dataset
from yolo_lite.data.pipeline.augment import ClassAugmenter
from yolo_lite.data.pipeline.classification import ClassDataset, collate_classes, read_record
from yolo_lite.errors import InputError
from yolo_lite.media.images import decode_image, read_image
from yolo_lite.media.inputs import to_input
from yolo_lite.structures.batches import ClassSample
from yolo_lite.structures.datasets import ClassRecord
from yolo_lite.structures.geometry import PAD_VALUE

Pixels = npt.NDArray[np.uint8]
OFF = {"mosaic": 0, "scale": [1, 1], "translate": 0, "flip": 0, "hue": 0, "saturation": 0, "value": 0}
ALL = {**OFF, "scale": [0.7, 1.3], "translate": 0.1, "flip": 0.5, "hue": 0.05, "saturation": 0.3, "value": 0.3}
CHANNELS = pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])


def _config(**changes: object) -> AugmentConfig:
    return config_from_dict({"augment": {**OFF, **changes}}, "test").augment


def _noise(hw: tuple[int, int] = (24, 32), channels: int = 3, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (*hw, channels)).astype(np.uint8)


def _bytes(image: npt.NDArray[Any], kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def _message(call: Callable[..., object], *arguments: Any, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_keeping_images_leaves_the_filters_of_warnings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = list(warnings.filters)
    with monkeypatch.context() as patch:  # pytest uses it too
        patch.setattr(warnings, "catch_warnings", lambda *_, **__: pytest.fail("the filters are swapped"))
        dataset = ClassDataset([ClassRecord("a", _bytes(_noise()), 0)] * 20, (16, 24), channels=3, resize="stretch")
    assert dataset.kept is not None
    assert list(warnings.filters) == before


# decode_image


def _turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # EXIF orientation: turn a quarter to be upright
    return _bytes(_noise(), "JPEG", exif=exif)


def _palette() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(_noise()).quantize(16).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(_bytes(_noise()), id="png"),
        pytest.param(_bytes(_noise(), "JPEG"), id="jpeg"),
        pytest.param(_bytes(_noise(), "BMP"), id="bmp"),
        pytest.param(_bytes(_noise(), "WEBP"), id="webp"),
        pytest.param(_bytes(_noise(), "TIFF"), id="tiff"),
        pytest.param(_bytes(_noise()[..., 0]), id="grey"),
        pytest.param(_bytes(_noise()[..., 0].astype(np.uint16) * 257), id="16 bits"),
        pytest.param(_bytes(_noise(channels=4)), id="transparent"),
        pytest.param(_palette(), id="palette"),
        pytest.param(_turned(), id="turned by EXIF"),
    ],
)
def test_bytes_are_decoded_as_the_file_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    made = decode_image(content, "somewhere/b.png")
    np.testing.assert_array_equal(made, read_image(tmp_path / "a"))
    assert made.dtype == np.uint8
    assert made.shape == ((32, 24, 3) if content == _turned() else (24, 32, 3))


def test_lossless_bytes_return_the_pixels_that_were_written() -> None:
    np.testing.assert_array_equal(decode_image(_bytes(_noise()), "a.png"), _noise())


_NAME = "set.tar.gz/train/cat/7.jpg"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", f"{_NAME} is empty (0 bytes)", id="empty"),
        pytest.param(b"not an image", f"{_NAME} is not an image that can be read", id="text"),
        pytest.param(bytes(1000), f"{_NAME} is not an image that can be read", id="zeros"),
        pytest.param(_bytes(_noise(), "JPEG")[:4], f"{_NAME} is not an image that can be read", id="a few bytes"),
        pytest.param(_bytes(_noise(), "JPEG")[:900], f"{_NAME} is damaged or cut short", id="jpeg cut short"),
        pytest.param(_bytes(_noise())[:1500], f"{_NAME} is damaged or cut short", id="png cut short"),
        pytest.param(_bytes(_noise(), "BMP")[:1500], f"{_NAME} is damaged or cut short", id="bmp cut short"),
    ],
)
def test_bytes_that_are_no_whole_image_are_refused_by_name(content: bytes, message: str) -> None:
    assert _message(decode_image, content, _NAME).startswith(message)


# read_record


@pytest.mark.parametrize("kind", ["file", "bytes", "pixels"])
def test_a_record_is_read_whatever_holds_it(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.png").write_bytes(_bytes(_noise()))
    contents: dict[str, Any] = {"file": tmp_path / "a.png", "bytes": _bytes(_noise()), "pixels": _noise()}
    content = contents[kind]
    np.testing.assert_array_equal(read_record(ClassRecord("a", content, 0)), _noise())
    box = (3.0, 5.0, 30.0, 20.0)  # x 3-30, y 5-20
    np.testing.assert_array_equal(read_record(ClassRecord("a", content, label=0, box=box)), _noise()[5:20, 3:30])


def test_grey_pixels_are_repeated_three_times() -> None:
    grey = _noise()[..., 0]
    np.testing.assert_array_equal(read_record(ClassRecord("a", grey, 0)), np.stack([grey] * 3, -1))
    np.testing.assert_array_equal(
        read_record(ClassRecord("a", grey, label=0, box=(1, 2, 5, 9))), np.stack([grey[2:9, 1:5]] * 3, -1)
    )


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [  # of an image of 24 x 32 (height, width)
        pytest.param((0, 0, 32, 24), (0, 24), (0, 32), id="all of it"),
        pytest.param((2.4, 3.6, 9.6, 9.4), (4, 9), (2, 10), id="sides are rounded"),
        pytest.param((-5, -7, 4, 6), (0, 6), (0, 4), id="beyond the upper left"),
        pytest.param((28, 20, 40, 50), (20, 24), (28, 32), id="beyond the lower right"),
    ],
)
def test_a_box_is_cut_to_its_image(
    box: tuple[float, float, float, float], rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    part = read_record(ClassRecord("a", _noise(), label=0, box=box))
    np.testing.assert_array_equal(part, _noise()[rows[0] : rows[1], columns[0] : columns[1]])


@pytest.mark.parametrize(
    "box",
    [(40, 0, 50, 10), (0, 30, 10, 40), (-20, 0, -2, 10), (0, -9, 10, -1)],
    ids=["right", "below", "left", "above"],
)
def test_a_box_outside_its_image_is_refused(box: tuple[float, float, float, float]) -> None:
    message = _message(read_record, ClassRecord("a.png at x, y", _noise(), label=0, box=box))
    assert message == "a.png at x, y lies outside its image of 32 x 24 pixels"


def test_an_image_in_an_archive_is_refused_by_its_name_there() -> None:
    assert _message(read_record, ClassRecord(_NAME, b"no", 0)).startswith(f"{_NAME} is not an image")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert _message(read_record, ClassRecord("a", tmp_path / "a.png", 0)) == f"{tmp_path}/a.png does not exist"


# to_input


@CHANNELS
@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
@pytest.mark.parametrize("hw", [(24, 32), (7, 50), (50, 7), (1, 1), (300, 200)])
def test_an_input_has_the_size_asked_for(hw: tuple[int, int], resize: str, channels: int) -> None:
    image = _noise(hw)
    made = to_input(image, (32, 48), channels=channels, resize=resize)
    assert made.shape == (32, 48, channels)
    assert made.dtype == np.uint8
    np.testing.assert_array_equal(image, _noise(hw))


def test_one_channel_is_the_luma_of_three() -> None:
    """ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B; at the size it has, nothing is resized."""
    image = _noise()
    expected = image @ np.array([0.299, 0.587, 0.114])
    assert np.abs(to_input(image, (24, 32), channels=1, resize="stretch")[..., 0] - expected).max() <= 0.51


def test_a_grey_image_keeps_its_values_in_one_channel() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    made = to_input(np.stack([grey] * 3, -1), (16, 16), channels=1, resize="letterbox")
    np.testing.assert_array_equal(made[..., 0], grey)


@CHANNELS
def test_a_letterbox_has_a_border_and_a_stretch_has_none(channels: int) -> None:
    """A white image twice as wide as high fills the middle half of a square."""
    white = np.full((10, 20, 3), 255, np.uint8)
    made = to_input(white, (40, 40), channels=channels, resize="letterbox")
    assert (made[10:30] == 255).all()
    assert (made[:10] == PAD_VALUE).all()
    assert (made[30:] == PAD_VALUE).all()
    assert (to_input(white, (40, 40), channels=channels, resize="stretch") == 255).all()


# ClassDataset


def _records(count: int = 6) -> list[ClassRecord]:
    """Return images of several sizes in every form, labels counting down."""
    records = []
    for number in range(count):
        image = _noise((20 + number, 30), seed=number)
        content = (image, image[..., 0], _bytes(image))[number % 3]
        box = (2.0, 3.0, 25.0, 18.0) if number % 2 else None
        records.append(ClassRecord(f"{number}", content, label=count - number, box=box))
    return records


def _uncached(monkeypatch: pytest.MonkeyPatch, *arguments: Any, **settings: Any) -> ClassDataset:
    with monkeypatch.context() as patch:
        patch.setattr(class_dataset, "CACHE_LIMIT", 0)
        dataset = ClassDataset(*arguments, **settings)
    assert dataset.kept is None
    return dataset


def test_a_file_is_read_once_for_all_parts_that_are_kept_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(class_dataset, "read_image", lambda path, *how: (read.append(path), read_image(path, *how))[1])
    records = []
    for number in range(3):
        path = tmp_path / f"{number}.png"
        path.write_bytes(_bytes(_noise(seed=number)))
        records += [ClassRecord(f"{number} {x}", path, label=number, box=(x, 0, x + 10, 20)) for x in (0, 7, 20)]
    dataset = ClassDataset(
        records, (16, 24), channels=3, resize="stretch", on_image=lambda done, total: told.append((done, total))
    )
    assert sorted(read) == [tmp_path / f"{number}.png" for number in range(3)]
    assert told == [(3, 9), (6, 9), (9, 9)]
    assert dataset.kept is not None
    for index, kept in enumerate(dataset.kept):
        np.testing.assert_array_equal(kept, dataset.load(index))


@CHANNELS
@pytest.mark.parametrize("augmented", [True, False])
def test_kept_images_are_those_that_are_decoded_anew(
    monkeypatch: pytest.MonkeyPatch, channels: int, augmented: bool
) -> None:
    augmenter = ClassAugmenter(_config(**ALL), channels) if augmented else None
    how = {"channels": channels, "resize": "letterbox", "augmenter": augmenter, "strong_epochs": 2, "seed": 7}
    kept, anew = ClassDataset(_records(), (16, 24), **how), _uncached(monkeypatch, _records(), (16, 24), **how)
    assert kept.kept is not None
    for _ in range(2):  # reading leaves what is kept as it was
        for epoch in range(4):
            for index in range(len(kept)):
                one, other = kept[epoch, index], anew[epoch, index]
                assert torch.equal(one.image, other.image)
                assert (one.label, one.position) == (other.label, other.position) == (6 - index, index)


@CHANNELS
@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
def test_a_sample_is_the_input_with_its_channels_first(channels: int, resize: str) -> None:
    dataset = ClassDataset(_records(), (16, 24), channels=channels, resize=resize)
    assert len(dataset) == 6
    for index, record in enumerate(_records()):
        sample = dataset[0, index]
        expected = to_input(read_record(record), (16, 24), channels=channels, resize=resize)
        assert sample.image.dtype == torch.uint8
        assert sample.image.shape == (channels, 16, 24)
        for channel in range(channels):
            np.testing.assert_array_equal(sample.image[channel].numpy(), expected[..., channel])


@CHANNELS
def test_a_sample_changed_in_place_does_not_change_what_is_kept(channels: int) -> None:
    for augmenter in (None, ClassAugmenter(_config(), channels)):
        dataset = ClassDataset(_records(), (16, 24), channels=channels, resize="stretch", augmenter=augmenter)
        before = dataset[0, 1].image.clone()
        dataset[0, 1].image.zero_()
        assert torch.equal(dataset[0, 1].image, before)


def test_a_sample_depends_on_seed_epoch_and_index_alone() -> None:
    def make(seed: int) -> ClassDataset:
        record = ClassRecord("a", _noise(), 0)
        augmenter = ClassAugmenter(_config(**{**ALL, "flip": 0}), 3)
        return ClassDataset(
            [record] * 3, (24, 32), channels=3, resize="stretch", augmenter=augmenter, strong_epochs=5, seed=seed
        )

    keys = [(epoch, index) for epoch in range(3) for index in range(3)]
    one, other = make(1), make(1)
    images = {key: one[key].image for key in keys}
    assert all(torch.equal(other[key].image, images[key]) for key in reversed(keys))  # in any order
    assert len({image.numpy().tobytes() for image in images.values()}) == 9
    assert not any(torch.equal(make(2)[key].image, images[key]) for key in keys)


def test_the_last_epochs_flip_only() -> None:
    image = _noise()
    config = _config(**{**ALL, "flip": 1})
    dataset = ClassDataset(
        [ClassRecord("a", image, 0)],
        (24, 32),
        channels=3,
        resize="stretch",
        augmenter=ClassAugmenter(config, 3),
        strong_epochs=2,
    )
    mirrored = torch.from_numpy(image[:, ::-1].copy()).permute(2, 0, 1)
    assert [torch.equal(dataset[epoch, 0].image, mirrored) for epoch in range(4)] == [False, False, True, True]


def test_images_are_kept_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 6 * 16 * 24 * 3  # bytes of six inputs
    for limit, kept in ((size, True), (size - 1, False)):
        monkeypatch.setattr(class_dataset, "CACHE_LIMIT", limit)
        assert (ClassDataset(_records(), (16, 24), channels=3, resize="stretch").kept is not None) == kept


def test_the_limit_yields_to_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    how = {"records": _records(), "input_hw": (16, 24), "channels": 3, "resize": "stretch"}
    assert ClassDataset(**how, cache="none").kept is None
    monkeypatch.setattr(class_dataset, "CACHE_LIMIT", 0)
    assert ClassDataset(**how, cache="ram").kept is not None
    monkeypatch.setattr("yolo_lite.data.pipeline.cache.free_memory", lambda: 100)
    assert "train.cache is ram, but" in _message(ClassDataset, **how, cache="ram")
    monkeypatch.setattr(class_dataset, "CACHE_LIMIT", 1 << 30)
    assert ClassDataset(**how).kept is None


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is empty"), (b"no", "is not an image"), (_bytes(_noise())[:900], "is damaged")]
)
def test_the_first_image_that_cannot_be_read_is_named_before_training(content: bytes, message: str) -> None:
    records = [*_records(), ClassRecord(_NAME, content, 0), ClassRecord("later", b"", 0)]
    assert _message(ClassDataset, records, (16, 24), channels=3, resize="stretch").startswith(f"{_NAME} {message}")


def test_a_corrupt_image_of_a_folder_is_named(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / "1.png").write_bytes(_bytes(_noise()))
    (tmp_path / "train" / "dog" / "2.png").write_bytes(_bytes(_noise())[:500])
    records = read_class_splits(tmp_path)[0]["train"].records
    message = _message(ClassDataset, records, (16, 24), channels=3, resize="stretch")
    assert message.startswith(f"{tmp_path}/train/dog/2.png is damaged or cut short")


def test_a_set_without_images_is_empty() -> None:
    assert len(ClassDataset([], (16, 24), channels=3, resize="stretch")) == 0


# collate_classes


@CHANNELS
def test_a_batch_stacks_samples_in_order(channels: int) -> None:
    images = [torch.from_numpy(_noise((16, 24), channels, seed)).permute(2, 0, 1) for seed in range(3)]
    batch = collate_classes([ClassSample(image, 5 - n, 10 + n) for n, image in enumerate(images)])
    assert batch.images.shape == (3, channels, 16, 24)
    assert (batch.images.dtype, batch.labels.dtype, batch.positions.dtype) == (torch.uint8, torch.int64, torch.int64)
    assert batch.labels.tolist() == [5, 4, 3]
    assert batch.positions.tolist() == [10, 11, 12]
    assert all(torch.equal(batch.images[n], image) for n, image in enumerate(images))


# ClassAugmenter


def _augment(config: AugmentConfig, image: Pixels, seed: int = 0, strong: bool = True) -> Pixels:
    return ClassAugmenter(config, image.shape[2])(image, np.random.default_rng(seed), strong)


@CHANNELS
@pytest.mark.parametrize("strong", [True, False])
@pytest.mark.parametrize("hw", [(24, 32), (28, 28), (33, 17)])
def test_shape_and_dtype_are_kept_and_the_input_is_not_modified(
    hw: tuple[int, int], strong: bool, channels: int
) -> None:
    image = _noise(hw, channels)
    for seed in range(10):
        made = _augment(_config(**ALL), image, seed, strong)
        assert made.shape == image.shape
        assert made.dtype == np.uint8
        np.testing.assert_array_equal(image, _noise(hw, channels))


@CHANNELS
def test_an_image_depends_on_the_generator_alone(channels: int) -> None:
    image, augmenter = _noise(channels=channels), ClassAugmenter(_config(**ALL), channels)
    made = [augmenter(image, np.random.default_rng(seed), True) for seed in range(8)]
    random.seed(9)
    for seed in reversed(range(8)):
        np.testing.assert_array_equal(augmenter(image, np.random.default_rng(seed), True), made[seed])
        np.testing.assert_array_equal(_augment(_config(**ALL), image, seed), made[seed])
    assert len({one.tobytes() for one in made}) == 8


@CHANNELS
@pytest.mark.parametrize("strong", [True, False])
def test_none_changes_nothing(channels: int, strong: bool) -> None:
    config = config_from_dict({"augment": "none"}, "test").augment
    image = _noise(channels=channels)
    np.testing.assert_array_equal(_augment(config, image, strong=strong), image)
    assert ClassAugmenter(config, channels).describe() == "none"


@CHANNELS
@pytest.mark.parametrize("strong", [True, False])
def test_a_flip_is_the_exact_mirror(channels: int, strong: bool) -> None:
    image = _noise(channels=channels)
    np.testing.assert_array_equal(_augment(_config(flip=1), image, strong=strong), image[:, ::-1])


@CHANNELS
def test_what_is_not_strong_flips_and_nothing_else(channels: int) -> None:
    """With everything on; of 40 images 8 to 32 are mirrored, save once in 100,000 (binomial, p 1/2)."""
    image = _noise(channels=channels)
    mirrored = 0
    for seed in range(40):
        made = _augment(_config(**ALL), image, seed, strong=False)
        is_mirror = np.array_equal(made, image[:, ::-1])
        assert is_mirror or np.array_equal(made, image)
        mirrored += is_mirror
    assert 8 <= mirrored <= 32


@CHANNELS
def test_what_is_uncovered_mirrors_the_rest(channels: int) -> None:
    """An image of one colour stays one when it shrinks and shifts: no border comes in."""
    image = np.full((24, 32, channels), 200, np.uint8)
    noise = _noise(channels=channels)
    for seed in range(10):
        np.testing.assert_array_equal(_augment(_config(scale=[0.4, 0.8], translate=0.3), image, seed), image)
        moved = _augment(_config(scale=[0.4, 0.8], translate=0.3), noise, seed)
        assert not np.array_equal(moved, noise)


def test_of_grey_only_the_brightness_varies() -> None:
    """All pixels shift alike, by at most the share `value` of 255, and both ways."""
    image = np.full((24, 32, 1), 128, np.uint8)
    shifts = []
    for seed in range(30):
        made = _augment(_config(hue=0.5, saturation=1, value=0.2), image, seed).astype(int)
        assert np.ptp(made) == 0
        shifts.append(int(made[0, 0, 0]) - 128)
    assert max(map(abs, shifts)) <= 51  # 0.2 x 255
    assert min(shifts) < -10
    assert max(shifts) > 10
    np.testing.assert_array_equal(_augment(_config(hue=0.5, saturation=1), _noise(channels=1)), _noise(channels=1))


def test_colour_leaves_every_pixel_in_its_place() -> None:
    """Two flat halves stay two flat halves with the border where it was, of other colours."""
    image = np.zeros((24, 32, 3), np.uint8)
    image[:, :10], image[:, 10:] = (200, 60, 40), (40, 90, 180)
    changed = 0
    for seed in range(10):
        made = _augment(_config(hue=0.1, saturation=0.3, value=0.2), image, seed)
        assert np.ptp(made[:, :10], axis=(0, 1)).max() == 0
        assert np.ptp(made[:, 10:], axis=(0, 1)).max() == 0
        changed += not np.array_equal(made, image)
    assert changed >= 9


@pytest.mark.parametrize("part", [{"scale": [1.2, 1.3]}, {"translate": 0.2}, {"value": 0.3}, {"flip": 1}])
@CHANNELS
def test_each_setting_alone_changes_images(channels: int, part: dict[str, object]) -> None:
    image = _noise(channels=channels)
    assert any(not np.array_equal(_augment(_config(**part), image, seed), image) for seed in range(3))


def test_the_description_names_what_is_on() -> None:
    told = ClassAugmenter(_config(**ALL), 3).describe()
    for words in ("scale 0.7 to 1.3", "shift up to 0.1", "hue ±0.05", "saturation ±0.3", "value ±0.3", "flip (p 0.5)"):
        assert words in told


def test_the_description_of_grey_names_no_colour() -> None:
    """Of grey only the brightness varies, and the line that is printed must not claim more."""
    told = ClassAugmenter(_config(**ALL), 1).describe()
    assert "hue" not in told
    assert "saturation" not in told
    assert "value ±0.3" in told


# Real images


@pytest.mark.shared_data
@pytest.mark.parametrize(("size", "channels"), [((28, 28), 1), ((32, 32), 3)])
def test_a_digit_at_its_own_size_is_as_it_was(shared_data: Path, size: tuple[int, int], channels: int) -> None:
    """28 x 28 grey is MNIST's own form; anything larger keeps the darkest and the brightest within its range."""
    records = read_class_splits(shared_data / "mnist")[0]["test"].records[:50]
    dataset = ClassDataset(records, size, channels=channels, resize="stretch")
    for index, record in enumerate(records):
        image = dataset[0, index].image.numpy()
        if size == (28, 28):
            np.testing.assert_array_equal(image[0], record.content)
        assert image.shape == (channels, *size)
        assert image.min() == 0
        assert image.max() > 200
