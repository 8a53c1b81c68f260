"""The interface over HTTP, on a real port: answers, refusals, and who may call."""

from __future__ import annotations

import base64
import gc
import hashlib
import io
import json
import logging
import re
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image

import yolo_lite
from tests.serve.conftest import NETWORK, Server, Stub, grey
from yolo_lite import Detector
from yolo_lite.inspect.why import explain_object
from yolo_lite.media.images import decode_image
from yolo_lite.media.writers import encode_image
from yolo_lite.serve import application
from yolo_lite.serve.access import JSON
from yolo_lite.serve.application import Access
from yolo_lite.serve.models import Choices, open_model
from yolo_lite.structures.geometry import Letterbox

Start = Callable[..., Server]
MESSAGES = Path(yolo_lite.__file__).parent / "messages"
FRAME = json.loads((MESSAGES / "frame.schema.json").read_text())


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(NETWORK, device="cpu")


def form(*fields: tuple[str, str, bytes], boundary: str = "xYz") -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers of a form: a name, a file name and a content for each field."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{file}"\r\n'.encode()
        + b"Content-Type: application/octet-stream\r\n\r\n"
        + content
        + b"\r\n"
        for name, file, content in fields
    ]
    return b"".join([*parts, f"--{boundary}--\r\n".encode()]), {
        "Content-Type": f"multipart/form-data; boundary={boundary}"
    }


# Answers


def test_detections_are_those_of_a_direct_call_by_the_schema(real: Server, detector: Detector, photo: bytes) -> None:
    image = decode_image(photo, "photo")
    before = time.time()
    for query, settings in (
        ("", {}),
        ("?score_threshold=0.1", {"score_threshold": 0.1}),
        ("?score_threshold=0.05&classes=tie,person", {"score_threshold": 0.05, "classes": ["tie", "person"]}),
        ("?score_threshold=0.2&tiles=2x2&overlap=0.3", None),
        ("?tile=300&score_threshold=0.2", {"score_threshold": 0.2, "tiles": 300}),
    ):
        if settings is None:
            from yolo_lite.structures.tiles import Tiling

            settings = {"score_threshold": 0.2, "tiles": Tiling("2x2", overlap=0.3)}
        answer = real.ask("POST", f"/v1/detect{query}", body=photo)
        assert answer.status == 200, answer.body
        assert answer.headers["content-type"] == "application/json"
        jsonschema.validate(answer.document, FRAME)
        expected = Detector(NETWORK, device="cpu", **settings)(image).to_dict()["detections"]
        assert answer.document["detections"] == expected
        assert len(expected) > 0
        assert answer.document["image_size"] == [512, 600]
        assert before - 1 <= answer.document["captured_at"] <= time.time() + 1


@pytest.mark.slow
def test_sizes_of_concurrent_requests_are_not_mixed_up(real: Server, detector: Detector, photo: bytes) -> None:
    whole, generator = decode_image(photo, "photo"), np.random.default_rng(5)
    images = []
    for _ in range(12):
        height, width = (int(side) for side in generator.integers(120, 500, 2))
        images.append(np.ascontiguousarray(whole[-height:, :width]))
    expected = [detector(image).to_dict()["detections"] for image in images]

    def ask(image: Any) -> Any:
        return real.ask("POST", "/v1/detect", body=encode_image(image, ".png")).document

    with ThreadPoolExecutor(8) as pool:
        documents = list(pool.map(ask, images))
    assert [document["detections"] for document in documents] == expected
    assert [document["image_size"] for document in documents] == [[image.shape[1], image.shape[0]] for image in images]


@pytest.mark.parametrize(
    ("file", "query", "source"),
    [
        ("a.png", "", "a.png"),
        ("", "", "request"),
        ("C:\\\\photos\\\\b.png", "", "b.png"),
        ("../../etc/c.png", "", "c.png"),
        ("d.png", "?source=camera%201", "camera 1"),
        ("caf\u00e9.png", "", "caf\u00e9.png"),
        ("x" * 300 + ".png", "", "x" * 200),
    ],
)
def test_the_name_of_an_image(start: Start, file: str, query: str, source: str) -> None:
    server = start()
    body, headers = form(("image", file, grey(128)))
    answer = server.ask("POST", f"/v1/detect{query}", body=body, headers=headers)
    assert answer.status == 200, answer.body
    assert answer.document["source"] == source
    assert answer.document["detections"][0]["score"] == pytest.approx(128 / 255)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "image/png"},
        {"Content-Type": "image/x-anything; q=1"},
        {"Content-Type": "application/octet-stream"},
        {"Content-Type": "application/x-www-form-urlencoded"},  # curl --data-binary
        {"Content-Encoding": "identity"},
    ],
)
def test_bodies_that_are_the_image(start: Start, headers: dict[str, str]) -> None:
    answer = start().ask("POST", "/v1/detect", body=grey(7), headers=headers)
    assert (answer.status, answer.document["source"]) == (200, "request")


def test_a_form_in_chunks_of_any_size_gives_the_same_image(start: Start) -> None:
    """A boundary may be cut anywhere between two chunks."""
    server = start()
    image = grey(200, (5, 7)) + b"\r\n--xY\r\n--xZ\r"  # looks like the boundary, almost
    body, headers = form(("image", "a.png", image))
    for size in (1, 2, 3, 7, 64, len(body)):
        chunks = (body[place : place + size] for place in range(0, len(body), size))
        answer = server.ask("POST", "/v1/detect", body=chunks, headers=headers)  # an iterator is sent in chunks
        assert (answer.status, answer.document["image_size"]) == (200, [7, 5])


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/json"),
        ("image/jpeg", "image/jpeg"),
        ("image/*", "image/jpeg"),
        ("application/json;q=0.5, image/jpeg", "image/jpeg"),
        ("image/jpeg;q=0.1, application/json", "application/json"),
        ("text/html", "application/json"),
        ("image/jpeg;q=x", "application/json"),
    ],
)
def test_the_accept_header_chooses_between_json_and_a_drawing(start: Start, accept: str, kind: str) -> None:
    answer = start().ask("POST", "/v1/detect", body=grey(90, (40, 60)), headers={"Accept": accept})
    assert (answer.status, answer.headers["content-type"]) == (200, kind)
    if kind == "image/jpeg":
        drawn = np.asarray(Image.open(io.BytesIO(answer.body)))
        assert drawn.shape == (40, 60, 3)
        assert np.ptp(drawn) > 50  # the box is not grey


def test_requests_with_tiles_share_no_batch_with_others() -> None:
    """Work of equal keys may run by the network of any of them, which would look at the tiles of none or of all."""
    model = open_model("yolo_lite-pico-voc5", Choices(device="cpu", any_batch=True))
    queries: list[dict[str, Any]] = [{}, {"tiles": "2x2"}, {"tiles": "2x2", "overlap": 0.5}, {"tile": 64}]
    works = [application._detection(model, query, JSON).work for query in queries]
    assert len({work.key for work in works}) == 4
    assert [len(work.sizes) > 1 for work in works] == [True, False, False, False]


def test_too_many_tiles_are_refused_before_they_are_listed(real: Server) -> None:
    image = encode_image(np.zeros((2000, 2000, 3), np.uint8), ".png")
    tracemalloc.start()
    answer = real.ask("POST", "/v1/detect?tile=32&overlap=0.9", body=image)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (answer.status, "at most 100" in answer.error) == (422, True)
    assert peak < 8_000_000  # 388,129 places take 60 MB


def test_labels_are_sorted_and_as_many_as_asked_for(start: Start) -> None:
    server = start()
    answer = server.ask("POST", "/v1/classify?source=a", body=grey(204, (3, 4)))
    assert answer.document == {
        "schema_version": 1,
        "source": "a",
        "image_size": [4, 3],
        "labels": [
            {"class_name": "light", "label": 1, "score": pytest.approx(0.8)},
            {"class_name": "dark", "label": 0, "score": pytest.approx(0.2)},
        ],
    }
    assert [row["label"] for row in server.ask("POST", "/v1/classify?top=1", body=grey(50)).document["labels"]] == [0]


def test_explanations_are_those_of_inspect_why_in_pixels_of_the_image(
    real: Server, detector: Detector, photo: bytes
) -> None:
    box = (2.0, 18.0, 512.0, 600.0)
    answer = real.ask("POST", "/v1/why?box=2,18,512,600&score_threshold=0.2", body=photo)
    assert answer.status == 200, answer.body
    document = answer.document
    levels, candidates = explain_object(detector.adjusted(score_threshold=0.2), decode_image(photo, "photo"), box=box)
    letterbox = Letterbox.fit((600, 512), detector.image_size, resize=detector.resize)
    assert [level["points"] for level in document["levels"]] == [level.points for level in levels]
    assert [one["score"] for one in document["candidates"]] == [one.score for one in candidates]
    assert {one["fate"] for one in document["candidates"]} == {one.fate for one in candidates}
    assert document["candidates"][0]["box"] == letterbox.boxes_to_original([candidates[0].box])[0].tolist()
    x, y = document["candidates"][0]["point"]
    left, top = letterbox.offset_xy
    scale = letterbox.scale_xy
    assert (x * scale[0] + left, y * scale[1] + top) == pytest.approx(candidates[0].point, abs=0.01)
    assert (document["score_threshold"], document["input_size"]) == (0.2, [416, 416])
    assert document["candidates"][0]["class_name"] == "person"


def test_what_is_served(start: Start, real: Server) -> None:
    server = start(max_bytes=1000, seconds=2.5)
    assert server.ask("GET", "/v1/models").document == {
        "models": [{"name": "stub", "task": "detect"}, {"name": "light", "task": "classify"}],
        "default": "stub",
    }
    told = server.ask("GET", "/v1/model?model=light").document
    assert (told["task"], told["class_names"], told["score_threshold"]) == ("classify", ["dark", "light"], None)
    assert told["limits"] == {"max_bytes": 1000, "max_pixels": 50_000_000, "seconds": 2.5, "queue": 32}
    assert server.ask("GET", "/v1/model").document["name"] == "stub"
    told = real.ask("GET", "/v1/model").document
    assert (told["backend"], told["explains"], told["image_size"]) == ("torch", True, [416, 416])
    assert told["card"]["licence"] == "Apache-2.0"


def test_samples_are_listed_and_no_other_file_is_served(real: Server, photo: bytes) -> None:
    assert real.ask("GET", "/samples").document == {"samples": ["grace_hopper.jpg"]}
    answer = real.ask("GET", "/samples/grace_hopper.jpg")
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, "image/jpeg", photo)
    for name in ("x.jpg", "..%2f..%2fetc%2fpasswd", "%2e%2e/matplotlibrc", "grace_hopper.jpg%00"):
        assert real.ask("GET", f"/samples/{name}").status == 404


def test_the_page_may_run_its_own_style_and_script_only(start: Start) -> None:
    """The hashes are computed here from what is delivered, as a browser does."""
    answer = start().ask("GET", "/")
    assert answer.headers["content-type"].startswith("text/html")
    parts = [part.strip().partition(" ") for part in answer.headers["content-security-policy"].split(";")]
    policy = {name: value for name, _, value in parts}
    assert policy["default-src"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert not any("unsafe" in value for value in policy.values())
    text = answer.body.decode()
    for kind in ("style", "script"):
        (inside,) = re.findall(f"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert policy[f"{kind}-src"] == f"'sha256-{digest}'"
    assert not re.search(r"<(style|script)\s|\sstyle=|\son[a-z]+=\"", text)
    assert answer.headers["x-content-type-options"] == "nosniff"


# Refusals


REFUSED: list[tuple[str, str, Any, dict[str, str], int, str]] = [
    ("GET", "/nix", None, {}, 404, "There is nothing at '/nix'; /openapi.json lists what there is."),
    ("GET", "/v1/models/", None, {}, 404, "nothing at '/v1/models/'"),
    ("GET", "/v1/detect", None, {}, 405, "GET is not possible for '/v1/detect'; use POST."),
    ("POST", "/v1/models", b"x", {}, 405, "POST is not possible for '/v1/models'; use GET or HEAD."),
    ("X" * 60_000, "/", None, {}, 405, f"{'X' * 20} is not possible for '/'; use GET or HEAD."),
    ("OPTIONS", "/v1/detect", None, {}, 405, "OPTIONS is not possible"),
    ("POST", "/v1/detect", b"", {}, 400, "The body is empty; send the bytes of an image."),
    ("POST", "/v1/detect", b"text", {}, 415, "The body is not an image that can be read"),
    ("POST", "/v1/detect", b"{}", {"Content-Type": "application/json"}, 415, "'application/json' is not accepted"),
    ("POST", "/v1/detect", grey(1), {"Content-Encoding": "gzip"}, 415, "A compressed body is not accepted"),
    ("POST", "/v1/detect", grey(1)[:-40], {}, 422, "The body is damaged or cut short and cannot be decoded"),
    ("POST", "/v1/detect?model=x", grey(1), {}, 422, "This server has no network 'x'; known: stub, light."),
    ("POST", "/v1/detect?model=light", grey(1), {}, 422, "light is a classifier; send the image to /v1/classify"),
    ("POST", "/v1/classify?model=stub", grey(1), {}, 422, "stub is a detector; send the image to /v1/detect"),
    (
        "POST",
        "/v1/detect?score_threshold=2",
        grey(1),
        {},
        422,
        "score_threshold: must be a number from 0 to 1, got '2'.",
    ),
    ("POST", "/v1/detect?score_threshold=nan", grey(1), {}, 422, "must be a number from 0 to 1, got 'nan'."),
    ("POST", "/v1/detect?scorethreshold=0", grey(1), {}, 422, "no parameter 'scorethreshold' here; did you mean"),
    ("POST", "/v1/detect?model=stub&model=stub", grey(1), {}, 422, "The parameter model stands twice"),
    ("POST", "/v1/detect?classes=,", grey(1), {}, 422, "classes: must be class names separated by commas"),
    ("POST", "/v1/detect?tiles=2", grey(1), {}, 422, "tiles: must be rows and columns such as 2x2"),
    ("POST", "/v1/detect?tiles=99x99", grey(1), {}, 422, "tiles must have 1 to 64 rows and columns"),
    ("POST", "/v1/detect?tile=3", grey(1), {}, 422, "tile: must be a whole number from 32 to 99999, got '3'."),
    ("POST", "/v1/detect?tile=64&tiles=2x2", grey(1), {}, 422, "Either a grid of tiles (2x2) or the side of a tile"),
    ("POST", "/v1/detect?overlap=0.1", grey(1), {}, 422, "overlap is the overlap of tiles; add tiles=2x2"),
    ("POST", "/v1/classify?top=0", grey(1), {}, 422, "top: must be a whole number from 1 to 1000, got '0'."),
    ("POST", "/v1/why?box=1,2,3,4", grey(1), {}, 422, "Explanations need a checkpoint; stub is an exported file."),
    ("POST", "/v1/why?box=9,2,3,4", grey(1), {}, 422, "box: must be the upper left and the lower right corner"),
    ("POST", "/v1/why", grey(1), {}, 422, "The parameter box is missing: Corners x1,y1,x2,y2 of an object"),
    ("POST", "/v1/detect", grey(1), {"Content-Type": "multipart/form-data"}, 400, "needs a boundary"),
    ("POST", "/v1/detect", b"xx", {"Content-Type": "multipart/form-data; boundary=b"}, 400, "The form is damaged"),
    (
        "POST",
        "/v1/detect",
        b"--b\r\nX: " + b"y" * 9000,
        {"Content-Type": "multipart/form-data; boundary=b"},
        400,
        "eader",  # the parser's own limit, or that of the server
    ),
    ("POST", "/v1/detect", b"--b\r\n", {"Content-Type": "multipart/form-data; boundary=b"}, 400, "cut short"),
    ("POST", "/v1/detect", *form(("file", "a", grey(1))), 400, "must have one field, image; got 'file' as field 1."),
    ("POST", "/v1/detect", *form(*[("image", "a", grey(1))] * 2), 400, "one field, image; got 'image' as field 2."),
    ("POST", "/v1/detect", *form(("image", "a", b"")), 400, "The field image is empty"),
    ("GET", "/v1/models?x=1", None, {}, 422, "There is no parameter 'x' here; known: none."),
]


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "sentence"), REFUSED, ids=lambda each: str(each)[:40]
)
def test_what_is_refused_is_explained_in_one_sentence(
    start: Start, method: str, path: str, body: Any, headers: dict[str, str], status: int, sentence: str
) -> None:
    server = start()
    answer = server.ask(method, path, body=body, headers=headers)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json"), answer.body
    assert sentence in answer.error
    assert len(answer.error) < 500
    assert answer.error.endswith((".", "?"))
    assert "\n" not in answer.error
    if status == 405:
        assert answer.headers["allow"]
    assert server.ask("POST", "/v1/detect", body=grey(255)).status == 200


def test_a_real_detector_refuses_what_it_cannot_do(real: Server, photo: bytes) -> None:
    answer = real.ask("POST", "/v1/detect?classes=persn", body=photo)
    assert (answer.status, "did you mean 'person'?" in answer.error) == (422, True)
    answer = real.ask("POST", "/v1/why?box=600,0,700,9", body=photo)
    assert (answer.status, "outside the image, which has 512 x 600 pixels" in answer.error) == (422, True)
    answer = real.ask("POST", "/v1/detect?tile=32&overlap=0.9", body=photo)
    assert (answer.status, "at most 100" in answer.error) == (422, True)


def test_a_failure_of_the_network_is_no_failure_of_the_server(
    start: Start, stub: Stub, caplog: pytest.LogCaptureFixture
) -> None:
    server = start()
    stub.failures = [ZeroDivisionError("division by zero")]
    with caplog.at_level(logging.ERROR, "yolo_lite"):
        answer = server.ask("POST", "/v1/detect?source=secret-name", body=grey(1))
    assert (answer.status, "ZeroDivisionError" in answer.error) == (500, True)
    assert "division by zero" in caplog.text
    assert "test_application" not in answer.error
    assert "secret-name" not in caplog.text
    assert server.ask("POST", "/v1/detect", body=grey(1)).status == 200
    assert server.ask("GET", "/healthz").document == {"status": "ok"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["damaged", "network", "late"])
def test_a_failed_request_frees_its_memory_without_the_garbage_collector(start: Start, stub: Stub, kind: str) -> None:
    """A cycle through the traceback of its error would keep its body and its pixels until the next collection."""
    server = start(seconds=0.2 if kind == "late" else 30)
    noise = np.random.default_rng(0).integers(0, 255, (600, 600, 3), np.uint8)
    image = encode_image(noise, ".png")
    body, status = {"damaged": (image[:-1000], 422), "network": (image, 500), "late": (image, 504)}[kind]

    def ask() -> None:
        stub.failures = [ZeroDivisionError()] if kind == "network" else []
        if kind == "late":
            stub.gate.clear()
        assert server.ask("POST", "/v1/detect", body=body).status == status
        stub.gate.set()

    ask()
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(5):
            ask()
        until = time.monotonic() + 60
        while tracemalloc.get_traced_memory()[0] > len(body) and time.monotonic() < until:
            time.sleep(0.05)
        assert tracemalloc.get_traced_memory()[0] < len(body)
    finally:
        tracemalloc.stop()
        gc.enable()


# Who may call


def test_a_token_is_asked_for_where_it_matters(start: Start) -> None:
    server = start(Access(token="s3cret"))
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/detect"), ("GET", "/metrics"), ("GET", "/v1/nix")):
        for given in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "Basic s3cret"},
            {"Authorization": "Bearer"},
        ):
            answer = server.ask(method, path, body=grey(1) if method == "POST" else None, headers=given)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Bearer realm="yolo_lite"')
            assert "Authorization: Bearer TOKEN" in answer.error
    good = {"Authorization": "bearer s3cret"}
    assert server.ask("POST", "/v1/detect", body=grey(1), headers=good).status == 200
    assert server.ask("GET", "/metrics", headers=good).status == 200
    for path in ("/", "/healthz", "/openapi.json", "/samples"):
        assert server.ask("GET", path).status == 200


@pytest.mark.parametrize("host", ["localhost/x?", "localhost/healthz#", "localhost?", "localhost/x?:1"])
@pytest.mark.parametrize("hosts", [(), None])
def test_a_host_header_with_a_path_does_not_get_round_the_token(start: Start, hosts: Any, host: str) -> None:
    server = start(Access("s3cret", hosts))
    assert server.ask("GET", "/v1/models", headers={"Host": host}).status in (401, 403)


@pytest.mark.parametrize(
    ("hosts", "host", "status"),
    [
        ((), "localhost", 200),
        ((), "127.0.0.1:1", 200),
        ((), "[::1]:8000", 200),
        ((), "LOCALHOST.:8000", 200),
        ((), "evil.example", 403),
        ((), "127.0.0.1.evil.example", 403),
        ((), "localhost@evil.example", 403),
        ((), "[::1", 403),
        (("gpu.example",), "gpu.example:443", 200),
        (("gpu.example",), "localhost", 200),
        (("gpu.example",), "evil.example", 403),
        (None, "anything.example", 200),
    ],
)
def test_a_name_that_was_pointed_here_is_refused(start: Start, hosts: Any, host: str, status: int) -> None:
    """DNS rebinding: a page of evil.example reaches 127.0.0.1, but its browser still sends its own name."""
    server = start(Access(hosts=hosts))
    assert server.ask("GET", "/v1/models", headers={"Host": host}).status == status


@pytest.mark.parametrize(
    ("origin", "host", "status"),
    [
        ("http://localhost:8000", "localhost:8000", 200),
        ("http://LOCALHOST:8000", "localhost:8000", 200),
        ("https://gpu.example", "gpu.example", 200),
        ("http://localhost:9000", "localhost:8000", 403),
        ("https://evil.example", "localhost:8000", 403),
        ("null", "localhost:8000", 403),
        ("http://localhost:8000.evil.example", "localhost:8000", 403),
        ("file://localhost:8000", "localhost:8000", 403),
    ],
)
def test_a_page_of_another_site_cannot_send_images(start: Start, origin: str, host: str, status: int) -> None:
    server = start(Access(hosts=("gpu.example",)))
    answer = server.ask("POST", "/v1/detect", body=grey(1), headers={"Origin": origin, "Host": host})
    assert answer.status == status
    assert "access-control-allow-origin" not in answer.headers


# What is counted


def test_metrics_are_read_by_another_parser(start: Start) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    server = start()
    for _ in range(3):
        server.ask("POST", "/v1/detect", body=grey(1))
    server.ask("POST", "/v1/classify", body=grey(1))
    server.ask("POST", "/v1/detect", body=b"text")
    server.ask("GET", '/nix"}')
    answer = server.ask("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in parser.text_string_to_metric_families(answer.body.decode())}
    values = {
        (one.name, *sorted(one.labels.items())): one.value for family in families.values() for one in family.samples
    }
    route = ("route", "/v1/detect")
    assert values["yolo_lite_requests_total", route, ("status", "200")] == 3
    assert values["yolo_lite_requests_total", route, ("status", "415")] == 1
    assert values["yolo_lite_requests_total", ("route", "other"), ("status", "404")] == 1
    assert values["yolo_lite_request_seconds_count", route] == 4
    assert values["yolo_lite_request_seconds_bucket", ("le", "+Inf"), route] == 4
    assert values["yolo_lite_images_total", ("model", "stub")] == 3
    assert values["yolo_lite_images_total", ("model", "light")] == 1
    assert values[("yolo_lite_batch_size_sum",)] == 4
    assert values[("yolo_lite_queue_length",)] == values[("yolo_lite_requests_in_progress",)] == 0
    assert values[("yolo_lite_queue_limit",)] == 32
    for name, family in families.items():
        if family.type == "histogram":
            buckets = [one for one in family.samples if one.name == f"{name}_bucket"]
            counts = [one.value for one in buckets if one.labels.get("route", route[1]) == route[1]]
            assert counts == sorted(counts)
