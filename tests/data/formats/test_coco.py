"""COCO JSON: what becomes of ids and boxes, and what is refused, naming file and annotation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from yolo_lite.data.formats.coco import read_coco, read_json
from yolo_lite.errors import InputError
from yolo_lite.structures.datasets import DetectionSet

IMAGES = [
    {"id": 900, "file_name": "b.jpg", "height": 100, "width": 200},
    {"id": 17, "file_name": "a.jpg", "height": 50, "width": 60},
]
CATEGORIES = [{"id": 90, "name": "owl"}, {"id": 3, "name": "cat"}, {"id": 41, "name": "dog"}]


def _annotation(**changes: Any) -> dict[str, Any]:
    row = {"id": 5, "image_id": 900, "category_id": 3, "bbox": [1, 2, 3, 4], "iscrowd": 0, "area": 12}
    row.update(changes)
    return {key: value for key, value in row.items() if value != "absent"}


def _write(folder: Path, annotations: Any = (), images: Any = IMAGES, categories: Any = CATEGORIES) -> Path:
    path = folder / "labels.json"
    annotations = list(annotations) if isinstance(annotations, tuple) else annotations
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def _read(folder: Path, *annotations: Any) -> DetectionSet:
    return read_coco(_write(folder, annotations), [folder])


# What is read


def test_labels_follow_the_order_of_the_category_list_whatever_its_ids(tmp_path: Path) -> None:
    data = _read(tmp_path, *(_annotation(id=i, category_id=i) for i in (3, 41, 90)))
    assert data.class_names == ("owl", "cat", "dog")
    assert data.category_ids == (90, 3, 41)
    assert data.records[0].labels.tolist() == [1, 2, 0]  # places of 3, 41 and 90 in the list above


def test_images_keep_the_order_of_the_file_and_their_ids(tmp_path: Path) -> None:
    data = _read(tmp_path, _annotation(image_id=17), _annotation(image_id=900), _annotation(image_id=17))
    assert [record.image_id for record in data.records] == [900, 17]
    assert [record.hw for record in data.records] == [(100, 200), (50, 60)]
    assert [len(record.boxes) for record in data.records] == [1, 2]
    assert data.source == str(tmp_path / "labels.json")


def test_a_box_becomes_two_corners(tmp_path: Path) -> None:
    record = _read(tmp_path, _annotation(bbox=[10.5, 20, 30, 40.25])).records[0]
    assert record.boxes.tolist() == [[10.5, 20, 40.5, 60.25]]  # x + width, y + height
    assert (record.boxes.dtype, record.labels.dtype, record.crowd.dtype) == (np.float64, np.int64, np.bool_)


@pytest.mark.parametrize(
    ("segmentation", "box"),
    [
        pytest.param([[10, 20, 30, 20, 20, 45]], [10, 20, 30, 45], id="one triangle"),
        pytest.param([[10, 20, 30, 20, 20, 45], [5, 60, 8, 60, 8, 70]], [5, 20, 30, 70], id="two parts"),
        pytest.param([10, 20, 30, 20, 20, 45], [10, 20, 30, 45], id="flat list"),
    ],
)
@pytest.mark.parametrize("bbox", ["absent", [], None], ids=["no box", "empty box", "null"])
def test_a_polygon_without_a_box_becomes_its_box(tmp_path: Path, segmentation: Any, box: list[int], bbox: Any) -> None:
    row = _annotation(bbox=bbox, segmentation=segmentation, area="absent")
    record = _read(tmp_path, row).records[0]
    assert record.boxes.tolist() == [box]
    assert record.areas.tolist() == [(box[2] - box[0]) * (box[3] - box[1])]


@pytest.mark.parametrize("bbox", ["absent", [], None], ids=["no box", "empty box", "null"])
def test_a_mask_without_a_box_becomes_its_box(tmp_path: Path, bbox: Any) -> None:
    """Columns 10 to 14 of an image of 200 x 100, rows 20 to 49: pycocotools writes the text form."""
    pixels = np.zeros((100, 200), np.uint8)
    pixels[20:50, 10:15] = 1
    text = coco_mask.encode(np.asfortranarray(pixels))["counts"].decode()
    counts = [10 * 100 + 20, *[30, 70] * 4, 30, 185 * 100 + 50]
    for form in (counts, text):
        row = _annotation(bbox=bbox, segmentation={"size": [100, 200], "counts": form}, area="absent")
        assert _read(tmp_path, row).records[0].boxes.tolist() == [[10, 20, 15, 50]]


def test_an_empty_mask_is_dropped_as_a_box_without_area(tmp_path: Path) -> None:
    data = _read(tmp_path, _annotation(bbox="absent", segmentation={"size": [100, 200], "counts": [20000]}))
    assert data.dropped == 1


def test_a_box_wins_over_a_polygon(tmp_path: Path) -> None:
    row = _annotation(bbox=[1, 2, 3, 4], segmentation=[[10, 20, 30, 20, 20, 45]])
    assert _read(tmp_path, row).records[0].boxes.tolist() == [[1, 2, 4, 6]]


def test_crowd_boxes_are_kept_and_marked(tmp_path: Path) -> None:
    rle = {"counts": [0, 10], "size": [100, 200]}
    rows = [_annotation(id=1, iscrowd=1, segmentation=rle), _annotation(id=2), _annotation(id=3, iscrowd="absent")]
    assert _read(tmp_path, *rows).records[0].crowd.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("value", "crowd"),
    [(0, False), (1, True), (False, False), (True, True), ("0", False), ("1", True), ("absent", False)],
)
def test_iscrowd_may_be_a_number_a_truth_or_a_digit(tmp_path: Path, value: Any, crowd: bool) -> None:
    assert _read(tmp_path, _annotation(iscrowd=value)).records[0].crowd.tolist() == [crowd]


@pytest.mark.parametrize("value", ["false", "true", "", "no", 2, -1, 0.5, None, [0], [], {}])
def test_any_other_iscrowd_is_refused_with_its_annotation(tmp_path: Path, value: Any) -> None:
    with pytest.raises(InputError, match=r"labels.json: annotation 5 has iscrowd .*, expected 0 or 1"):
        _read(tmp_path, _annotation(iscrowd=value))


@pytest.mark.parametrize(
    "bbox", [[1, 2, 0, 4], [1, 2, 3, 0], [1, 2, 0, 0], [5, 5, 1e-20, 4]], ids=["no width", "no height", "none", "tiny"]
)
def test_a_box_without_area_is_dropped_and_counted(tmp_path: Path, bbox: list[float]) -> None:
    data = _read(tmp_path, _annotation(id=1, bbox=bbox), _annotation(id=2), _annotation(id=3, bbox=bbox))
    assert data.dropped == 2
    assert data.records[0].boxes.tolist() == [[1, 2, 4, 6]]
    assert "2 boxes without area dropped" in data.summary()


@pytest.mark.parametrize(
    ("area", "expected"), [(7.5, 7.5), ("absent", 12.0), (None, 12.0), (float("nan"), 12.0)], ids=str
)
def test_the_area_is_the_annotated_one_or_that_of_the_box(tmp_path: Path, area: Any, expected: float) -> None:
    assert _read(tmp_path, _annotation(area=area)).records[0].areas.tolist() == [expected]  # 3 * 4 = 12


def test_images_without_annotations_are_background(tmp_path: Path) -> None:
    data = _read(tmp_path)
    assert [record.boxes.shape for record in data.records] == [(0, 4), (0, 4)]
    assert [(r.labels.shape, r.crowd.shape, r.areas.shape) for r in data.records] == [((0,), (0,), (0,))] * 2
    assert "2 images without objects kept as background" in data.summary()


def test_boxes_outside_the_image_are_kept_as_they_are(tmp_path: Path) -> None:
    assert _read(tmp_path, _annotation(bbox=[-5, -5, 500, 500])).records[0].boxes.tolist() == [[-5, -5, 495, 495]]


def test_a_size_that_the_file_does_not_say_is_read_from_the_image(tmp_path: Path) -> None:
    Image.new("RGB", (31, 17)).save(tmp_path / "a.png")
    path = _write(tmp_path, images=[{"id": 1, "file_name": "a.png"}])
    assert read_coco(path, [tmp_path]).records[0].hw == (17, 31)


@pytest.mark.parametrize("size", [(0, 0), (0, 31), (31, 0), (-1, -1), (None, None)])
def test_a_size_of_0_is_read_from_the_image(tmp_path: Path, size: tuple[Any, Any]) -> None:
    Image.new("RGB", (31, 17)).save(tmp_path / "a.png")
    path = _write(tmp_path, images=[{"id": 1, "file_name": "a.png", "width": size[0], "height": size[1]}])
    assert read_coco(path, [tmp_path]).records[0].hw == (17, 31)


def _root_and(*classes: tuple[int, str, str]) -> list[dict[str, Any]]:
    rows = [(0, "owls", "none"), *classes]
    return [{"id": i, "name": name, "supercategory": above} for i, name, above in rows]


def test_a_root_category_is_left_out_with_a_line(tmp_path: Path) -> None:
    categories = _root_and((1, "owl", "owls"), (2, "cat", "owls"))
    data = read_coco(_write(tmp_path, (_annotation(category_id=2),), categories=categories), [tmp_path])
    assert data.class_names == ("owl", "cat")
    assert data.category_ids == (1, 2)
    assert data.records[0].labels.tolist() == [1]
    assert data.notes == (
        f"{tmp_path / 'labels.json'}: the category 'owls' (id 0) is left out: no annotation uses it, and others have it as "
        "their supercategory",
    )


def test_a_root_category_may_be_called_as_the_class(tmp_path: Path) -> None:
    categories = _root_and((1, "owls", "owls"), (2, "cat", "owls"))
    data = read_coco(_write(tmp_path, (_annotation(category_id=2),), categories=categories), [tmp_path])
    assert (data.class_names, data.category_ids) == (("owls", "cat"), (1, 2))


def test_a_root_with_the_name_of_a_class_is_left_out_of_a_file_without_annotations_too(tmp_path: Path) -> None:
    path = _write(tmp_path, (), categories=_root_and((1, "owls", "owls"), (2, "cat", "owls")))
    data = read_coco(path, [tmp_path])
    assert (data.class_names, data.category_ids) == (("owls", "cat"), (1, 2))


@pytest.mark.parametrize("used", [0, 1])
def test_an_unused_category_with_the_name_of_a_used_one_is_left_out(tmp_path: Path, used: int) -> None:
    categories = [{"id": i, "name": "owl", "supercategory": "owl"} for i in (0, 1)]
    data = read_coco(_write(tmp_path, (_annotation(category_id=used),), categories=categories), [tmp_path])
    assert data.category_ids == (used,)
    assert "no annotation uses it, and another has its name" in data.notes[0]


@pytest.mark.parametrize(
    ("categories", "used"),
    [
        pytest.param(_root_and((1, "owl", "owls")), 0, id="it is used"),
        pytest.param(_root_and((1, "owl", "birds")), 1, id="nobody names it"),
        pytest.param(
            [{"id": 0, "name": "owls", "supercategory": "owls"}, {"id": 1, "name": "cat"}], 1, id="only itself"
        ),
        pytest.param(_root_and((1, "owl", "owls")), None, id="no annotation at all"),
    ],
)
def test_any_other_category_stays(tmp_path: Path, categories: list[dict[str, Any]], used: int | None) -> None:
    rows = () if used is None else (_annotation(category_id=used),)
    data = read_coco(_write(tmp_path, rows, categories=categories), [tmp_path])
    assert len(data.class_names) == 2
    assert data.notes == ()


def test_the_first_folder_that_has_the_file_wins(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two", "three")]
    for folder in folders:
        folder.mkdir()
    (folders[1] / "a.jpg").touch()
    (folders[2] / "a.jpg").touch()
    (folders[2] / "b.jpg").touch()
    records = read_coco(_write(tmp_path), folders).records
    assert [record.path for record in records] == [folders[2] / "b.jpg", folders[1] / "a.jpg"]


def test_an_image_that_is_nowhere_gets_the_place_where_it_should_be(tmp_path: Path) -> None:
    assert read_coco(_write(tmp_path), [tmp_path / "x", tmp_path / "y"]).records[0].path == tmp_path / "x" / "b.jpg"
    assert read_coco(_write(tmp_path), []).records[0].path == tmp_path / "b.jpg"


# What is refused


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"bbox": [1, 2, NAN, 4]}, "expected four finite numbers", id="NaN"),
        pytest.param({"bbox": [1, 2, 3, INF]}, "expected four finite numbers", id="infinite"),
        pytest.param({"bbox": [1, 2, 3]}, "expected four finite numbers", id="three numbers"),
        pytest.param({"bbox": [1, 2, 3, "4"]}, "expected four finite numbers", id="text"),
        pytest.param({"bbox": [1, 2, 3, None]}, "expected four finite numbers", id="null"),
        pytest.param({"bbox": [1, 2, 3, True]}, "expected four finite numbers", id="truth"),
        pytest.param({"bbox": "1 2 3 4"}, "expected four finite numbers", id="box as text"),
        pytest.param({"bbox": {"x": 1}}, "expected four finite numbers", id="box as mapping"),
        pytest.param({"bbox": [1, 2, 10**400, 4]}, "expected four finite numbers", id="too large for a float"),
        pytest.param({"bbox": [1, 2, -3, 4]}, "negative size: width -3, height 4", id="negative width"),
        pytest.param({"bbox": [1, 2, 3, -4]}, "negative size: width 3, height -4", id="negative height"),
        pytest.param({"category_id": 4}, "has category 4, which the file does not list", id="unknown category"),
        pytest.param({"category_id": "absent"}, "has category None", id="no category"),
        pytest.param({"category_id": [3]}, "has category [3]", id="category as list"),
        pytest.param({"image_id": 1}, "belongs to image 1, which the file does not list", id="unknown image"),
        pytest.param({"image_id": "absent"}, "belongs to image None", id="no image"),
        pytest.param({"image_id": {"id": 900}}, "belongs to image {'id': 900}", id="image as mapping"),
        pytest.param({"bbox": "absent"}, "neither a box nor a polygon", id="neither box nor polygon"),
        pytest.param({"bbox": [], "segmentation": [[1, 2, 3, 4]]}, "neither a box nor a polygon", id="two points"),
        pytest.param({"bbox": [], "segmentation": [[1, 2, 3, 4, 5]]}, "neither a box nor a polygon", id="odd"),
        pytest.param(
            {"bbox": [], "segmentation": [[1, 2, 3, 4, 5, NAN]]}, "neither a box nor a polygon", id="NaN in a polygon"
        ),
        pytest.param(
            {"bbox": [], "segmentation": {"counts": [1], "size": [1, 1]}},
            "a mask of 1 x 1 pixels for an image of 200 x 100",
            id="RLE of another size",
        ),
    ],
)
def test_an_annotation_is_refused_with_its_file_and_id(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    good = _annotation(id=1)
    with pytest.raises(InputError) as caught:
        _read(tmp_path, good, _annotation(id=4711, **changes))
    assert str(caught.value).startswith(f"{tmp_path / 'labels.json'}: annotation 4711 ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nan_is_really_in_the_file(tmp_path: Path) -> None:
    """Python writes NaN as a bare word, which is how such files come about."""
    assert "NaN" in _write(tmp_path, (_annotation(bbox=[1, 2, NAN, 4]),)).read_text()


@pytest.mark.parametrize(
    ("images", "categories", "message"),
    [
        pytest.param([*IMAGES, IMAGES[0]], CATEGORIES, "two images share the id 900", id="image id twice"),
        pytest.param(
            IMAGES, [*CATEGORIES, {"id": 3, "name": "x"}], "two categories share the id 3", id="category id twice"
        ),
        pytest.param(IMAGES, [*CATEGORIES, {"id": 8, "name": "cat"}], "or the name 'cat'", id="category name twice"),
        pytest.param(IMAGES, [], "lists no categories", id="no categories"),
        pytest.param(IMAGES, [{"id": "3", "name": "x"}], "every category needs an integer id", id="id as text"),
        pytest.param(IMAGES, [{"id": 3}], "every category needs an integer id and a name", id="category without name"),
        pytest.param(IMAGES, ["cat"], "every category needs an integer id", id="category as text"),
        pytest.param([{"id": 1}], CATEGORIES, "every image needs an integer id and a file_name", id="no file_name"),
        pytest.param([{"file_name": "a.jpg"}], CATEGORIES, "every image needs an integer id", id="image without id"),
        pytest.param(["a.jpg"], CATEGORIES, "every image needs an integer id", id="image as text"),
    ],
)
def test_the_lists_are_refused_with_their_file(tmp_path: Path, images: Any, categories: Any, message: str) -> None:
    path = _write(tmp_path, images=images, categories=categories)
    with pytest.raises(InputError) as caught:
        read_coco(path, [tmp_path])
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("annotation", ["text", 5, None, [1, 2, 3, 4]], ids=["text", "number", "null", "list"])
def test_an_annotation_that_is_no_mapping_is_refused(tmp_path: Path, annotation: Any) -> None:
    with pytest.raises(InputError) as caught:
        _read(tmp_path, _annotation(), annotation)
    assert str(tmp_path / "labels.json") in str(caught.value)


def test_an_annotation_without_id_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"annotation \(without id\) has a box of negative size"):
        _read(tmp_path, _annotation(id="absent", bbox=[1, 2, -3, 4]))


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{}",
        '{"images": [], "annotations": []}',
        '{"images": {}, "annotations": [], "categories": []}',
        "5",
        '"a"',
    ],
)
def test_json_that_is_no_coco_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        read_coco(path, [tmp_path])
    assert str(caught.value).startswith(f"{path} is not a COCO annotation file")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b'{"images": [],\n "annotations": [}', " is not valid JSON (line 2: ", id="broken in line 2"),
        pytest.param(b"", " is not valid JSON (line 1: ", id="empty"),
        pytest.param(b'{"images": [\n\n\n', " is not valid JSON (line 4: ", id="cut short"),
        pytest.param(b"\xff\xd8\xff\xe0", ": line 1 is not UTF-8 text", id="a JPEG"),
    ],
)
def test_what_is_not_json_names_file_and_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "labels.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_json(path)
    assert str(caught.value).startswith(f"{path}{message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["absent.json", "."])
def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read_json(tmp_path / name)


# Real files


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("file", "folder", "images", "boxes", "classes"),
    [  # counts as $YOLO_LITE_DATA/README.md says them
        pytest.param(
            "coco_mini/annotations/instances_train2017.json", "train2017", 343, 2974, 80, id="coco_mini train"
        ),
        pytest.param("coco_mini/annotations/instances_val2017.json", "val2017", 357, 3003, 80, id="coco_mini val"),
        pytest.param("voc5/annotations/instances_val.json", "images", 191, 451, 5, id="voc5 val"),
        pytest.param("raccoon/annotations/instances_val.json", "images", 40, 44, 1, id="raccoon val"),
    ],
)
def test_real_files_hold_what_their_description_says(
    shared_data: Path, file: str, folder: str, images: int, boxes: int, classes: int
) -> None:
    path = shared_data / file
    data = read_coco(path, [path.parents[1] / folder])
    assert len(data.records) == images
    assert sum(len(record.boxes) for record in data.records) + data.dropped == boxes
    assert len(data.class_names) == classes
    content = json.loads(path.read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    records = {record.image_id: record for record in data.records}
    seen: dict[int, int] = {}
    for row in content["annotations"]:
        x, y, width, height = row["bbox"]
        if width <= 0 or height <= 0:
            continue
        record, place = records[row["image_id"]], seen.get(row["image_id"], 0)
        seen[row["image_id"]] = place + 1
        assert record.boxes[place].tolist() == [x, y, x + width, y + height]
        assert data.class_names[record.labels[place]] == names[row["category_id"]]
        assert bool(record.crowd[place]) == bool(row.get("iscrowd", 0))


def _partly(folder: Path, labelled: Any) -> DetectionSet:
    images = [{**IMAGES[0], "labelled_classes": labelled}, IMAGES[1]]
    return read_coco(_write(folder, (_annotation(),), images), [folder])


def test_an_image_may_be_labelled_for_some_classes_only(tmp_path: Path) -> None:
    data = _partly(tmp_path, ["cat"])
    assert [record.unlabelled for record in data.records] == [(0, 2), ()]
    assert "1 image labelled for some classes only" in data.summary()


@pytest.mark.parametrize("labelled", ["cat", ["cat", "bird"], [3], 7], ids=str)
def test_labelled_classes_must_be_categories(tmp_path: Path, labelled: Any) -> None:
    with pytest.raises(InputError, match=r"labels\.json: image 900: labelled_classes must be a list"):
        _partly(tmp_path, labelled)
