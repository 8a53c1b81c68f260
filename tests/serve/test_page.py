"""The page in a real browser, with the real server and network behind it."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.class_images import QUICK, write_class_set
from tests.reporting.test_browser import CONTRAST
from tests.serve.running import NAME, running_server
from yolo_lite import Classifier, Detector, train_classifier
from yolo_lite.draw.colours import class_colour
from yolo_lite.inspect.why import explain_object
from yolo_lite.predict.files import sample_image

BROWSER = shutil.which("chromium")
FLAGS = ("--no-sandbox", "--disable-gpu", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
# Hand files to the page as a drop or a paste does: a list of [name, type, base64].
HAND_OVER = """([kind, files]) => {
  const transfer = new DataTransfer();
  for (const [name, type, text] of files) {
    transfer.items.add(new File([Uint8Array.from(atob(text), each => each.charCodeAt(0))], name, {type}));
  }
  const options = {bubbles: true, cancelable: true};
  const event = kind === 'paste' ? new ClipboardEvent('paste', {...options, clipboardData: transfer})
    : new DragEvent('drop', {...options, dataTransfer: transfer});
  document.querySelector('#drop').dispatchEvent(event);
}"""
# Colours around a point of the image, in fractions of its sides, as the canvas shows them.
LOOK = """([x, y]) => {
  const canvas = document.querySelector('#canvas');
  const [left, top] = [Math.round(x * canvas.width) - 3, Math.round(y * canvas.height) - 3];
  return [...canvas.getContext('2d').getImageData(left, top, 7, 7).data];
}"""
HIDE = """() => {
  Object.defineProperty(document, 'hidden', {value: true});
  document.dispatchEvent(new Event('visibilitychange'));
}"""
# A camera behind a permission prompt: `streams` are those that were opened, `allow` answers the prompts.
PROMPT = """() => {
  const media = navigator.mediaDevices, real = media.getUserMedia.bind(media), waiting = [], opened = [];
  window.streams = [];
  media.getUserMedia = (wanted) => {
    const allowed = new Promise((done) => waiting.push(done));
    opened.push(allowed.then(() => real(wanted)).then((stream) => { window.streams.push(stream); return stream; }));
    return opened.at(-1);
  };
  window.prompts = () => waiting.length;
  window.allow = async () => { waiting.forEach((done) => done()); await Promise.all(opened); };
}"""
RUNNING = "window.streams.map(stream => stream.getTracks().some(track => track.readyState === 'live'))"

pytestmark = pytest.mark.slow
pytest.importorskip("playwright.sync_api", reason="no playwright (pip install playwright)")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if BROWSER is None:
        pytest.skip("no chromium (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        launched = running.chromium.launch(executable_path=BROWSER, args=list(FLAGS))
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with running_server() as address:
        yield address


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(NAME, device="cpu", score_threshold=0.05)


class Visit:
    """A page that is open, with what it printed and asked for."""

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.address = page, address
        self.printed: list[str] = []
        self.requests: list[str] = []
        page.set_default_timeout(120_000)
        page.on("console", lambda message: self.printed.append(message.text))
        page.on("pageerror", lambda error: self.printed.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    def open(self) -> None:
        self.page.goto(self.address)
        self.page.locator("#models").wait_for()

    def hand_over(self, *files: tuple[str, str, bytes], kind: str = "drop") -> None:
        rows = [[name, mime, base64.b64encode(content).decode()] for name, mime, content in files]
        self.page.evaluate(HAND_OVER, [kind, rows])

    def drop_photo(self, name: str = "photo.jpg") -> None:
        self.hand_over((name, "image/jpeg", sample_image().read_bytes()))
        self.wait_for(name)

    def wait_for(self, name: str) -> None:
        self.page.locator("#facts", has_text=name).wait_for()

    def rows(self) -> list[tuple[str, float]]:
        lines = self.page.locator("[role=option]").evaluate_all(
            "rows => rows.map(row => row.getAttribute('aria-label'))"
        )
        return [(line.split(", score ")[0], float(re.findall(r"score ([\d.]+)", line)[0])) for line in lines]

    def tab(self, name: str) -> None:
        self.page.locator(f"#tab-{name}").click()

    def document(self) -> dict[str, Any]:
        self.tab("json")
        return json.loads(self.page.locator("pre[aria-label=JSON]").inner_text())

    def posted(self, end: str) -> list[str]:
        return [url for url in self.requests if f"/v1/{end}?" in url]

    def alert(self) -> str:
        alert = self.page.locator("[role=alert] p")
        alert.wait_for()
        return alert.inner_text()


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    visit = Visit(context.new_page(), address)
    visit.open()
    yield visit
    context.close()


def jpeg(image: Image.Image, **options: Any) -> bytes:
    return encoded(image, "JPEG", quality=95, **options)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def expected(detector: Detector, content: bytes, threshold: float) -> list[tuple[str, float]]:
    """Return class names and scores above a threshold, by the detector without any server."""
    found = detector(Image.open(io.BytesIO(content)))
    return [(name, round(float(score), 2)) for name, score in zip(found.names, found.scores) if score > threshold]


def own_threshold() -> float:
    return Detector(NAME, device="cpu").score_threshold


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_an_image_that_is_handed_over_gets_its_objects(kind: str, visit: Visit, detector: Detector) -> None:
    content = sample_image().read_bytes()
    visit.hand_over(("photo.jpg", "image/jpeg", content), kind=kind)
    visit.wait_for("photo.jpg")
    objects = expected(detector, content, own_threshold())
    assert visit.rows() == objects
    assert len(objects) >= 1
    assert visit.page.locator("#headline").inner_text() == (
        f"{len(objects)} objects" if len(objects) > 1 else "1 object"
    )
    visit.page.locator("#status", has_text="photo.jpg: 1 object: 1 person").wait_for(state="attached")
    assert visit.printed == []


def test_a_file_that_is_chosen(visit: Visit, detector: Detector) -> None:
    visit.page.locator("#file").set_input_files(str(sample_image()))
    visit.wait_for(sample_image().name)
    assert visit.rows() == expected(detector, sample_image().read_bytes(), own_threshold())


def test_a_sample_of_the_server(visit: Visit, detector: Detector) -> None:
    visit.page.locator("#sample-list button").first.click()
    visit.wait_for(sample_image().name)
    assert visit.rows() == expected(detector, sample_image().read_bytes(), own_threshold())


def test_the_canvas_shows_each_box_in_the_colour_of_its_class(visit: Visit, detector: Detector) -> None:
    visit.drop_photo()
    visit.page.locator("#caption").select_option("none")
    found = detector(sample_image())
    x1, y1, x2, y2 = found.boxes[0].tolist()
    height, width = 600, 512  # of the photograph
    middles = [(x1, (y1 + y2) / 2), (x2, (y1 + y2) / 2), ((x1 + x2) / 2, y1), ((x1 + x2) / 2, y2)]
    colour = np.array(class_colour(int(found.labels[0])))
    for x, y in middles:
        inside = (min(max(x, 3), width - 3) / width, min(max(y, 3), height - 3) / height)
        around = np.array(visit.page.evaluate(LOOK, inside)).reshape(-1, 4)[:, :3]
        assert np.abs(around - colour).max(1).min() < 12
    visit.page.locator("#threshold").fill("1")
    around = np.array(visit.page.evaluate(LOOK, (middles[0][0] / width, 0.5))).reshape(-1, 4)[:, :3]
    assert np.abs(around - colour).max(1).min() > 12  # no box, no colour


def test_the_slider_filters_without_a_request(visit: Visit, detector: Detector) -> None:
    visit.drop_photo()
    asked = len(visit.requests)
    content = sample_image().read_bytes()
    counts = []
    for threshold in (0.05, 0.2, 0.33, 0.5, 1.0):
        visit.page.locator("#threshold").fill(str(threshold))
        objects = expected(detector, content, threshold)
        assert visit.rows() == objects
        assert visit.page.locator("#threshold-value").inner_text() == f"{threshold:.2f}"
        counts.append(len(objects))
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[1] > counts[2] > counts[-1] == 0
    visit.page.locator("#threshold-own").click()
    assert visit.rows() == expected(detector, content, own_threshold())
    assert len(visit.requests) == asked


def test_classes_and_labels_act_without_a_request(visit: Visit, detector: Detector) -> None:
    visit.drop_photo()
    asked = len(visit.requests)
    visit.page.locator("#threshold").fill("0.2")
    objects = expected(detector, sample_image().read_bytes(), 0.2)
    names = {name for name, _ in objects}
    assert {"person", "tie"} <= names
    visit.page.locator("[data-class-name=person]").click()
    assert visit.rows() == [(name, score) for name, score in objects if name != "person"]
    assert {row["class_name"] for row in visit.document()["detections"]} == names - {"person"}
    visit.tab("objects")
    visit.page.get_by_role("button", name="Show all").click()
    assert visit.rows() == objects
    pictures = []
    for caption in ("full", "name", "none"):
        visit.page.locator("#caption").select_option(caption)
        pictures.append(visit.page.evaluate("document.querySelector('#canvas').toDataURL()"))
    assert len(set(pictures)) == 3
    assert len(visit.requests) == asked


def test_a_wrong_file_is_named_and_the_image_stays(visit: Visit) -> None:
    visit.drop_photo()
    asked = len(visit.posted("detect"))
    visit.hand_over(("notes.txt", "text/plain", b"not an image"))
    assert visit.alert() == "notes.txt is not an image. Choose a JPEG, PNG, WebP, BMP, GIF or TIFF file."
    assert len(visit.posted("detect")) == asked
    assert visit.rows()[0][0] == "person"


def test_a_text_that_calls_itself_an_image_gets_the_sentence_of_the_server(visit: Visit) -> None:
    visit.hand_over(("photo.jpg", "image/jpeg", b"not an image at all"))
    assert len(visit.alert()) > 20
    assert "image" in visit.alert()
    assert visit.page.locator("#headline").inner_text() == "No result"
    visit.drop_photo("good.jpg")  # and it goes on
    assert visit.page.locator("[role=alert] p").count() == 0


def test_a_damaged_image_gets_the_sentence_of_the_server(visit: Visit) -> None:
    content = sample_image().read_bytes()
    visit.hand_over(("half.jpg", "image/jpeg", content[: len(content) // 2]))
    assert len(visit.alert()) > 20
    assert visit.page.locator("#headline").inner_text() == "No result"


def test_a_huge_file_is_refused_before_it_is_sent(visit: Visit) -> None:
    visit.page.evaluate("""() => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([new Uint8Array(60e6)], 'huge.png', {type: 'image/png'}));
      document.body.dispatchEvent(new DragEvent('drop', {bubbles: true, cancelable: true, dataTransfer: transfer}));
    }""")
    assert re.fullmatch(
        r"huge.png is 60.0 MB; this server accepts at most [\d.]+ MB. Choose a smaller image.", visit.alert()
    )
    assert visit.posted("detect") == []


def test_an_image_of_too_many_pixels_is_refused_before_it_is_sent(visit: Visit) -> None:
    visit.hand_over(("wide.png", "image/png", encoded(Image.new("1", (9000, 6000)), "PNG")))  # 54 megapixels
    assert visit.alert().startswith("wide.png has 54.0 megapixels; this server accepts at most 50.0.")
    assert visit.posted("detect") == []


def test_of_two_at_once_the_later_one_counts(visit: Visit, detector: Detector) -> None:
    held: list[Any] = []

    def hold(route: Any) -> None:
        if "source=first.jpg" in route.request.url:
            held.append(route)
        else:
            route.continue_()

    visit.page.route("**/v1/detect?*", hold)
    first = jpeg(Image.new("RGB", (200, 100), "white"))
    visit.hand_over(("first.jpg", "image/jpeg", first))
    visit.page.wait_for_timeout(500)
    assert len(held) == 1
    visit.drop_photo("second.jpg")
    rows = visit.rows()
    late = {"class_name": "zebra", "label": 22, "score": 0.99, "box": [0, 0, 100, 100]}
    answer = {"schema_version": 1, "source": "first.jpg", "image_size": [200, 100], "detections": [late]}
    with suppress(Exception):  # the browser has let go of the request
        held[0].fulfill(json=answer)
    visit.page.wait_for_timeout(500)
    assert visit.rows() == rows == expected(detector, sample_image().read_bytes(), own_threshold())
    assert "second.jpg" in visit.page.locator("#facts").inner_text()
    assert visit.page.locator("[role=alert] p").count() == 0


def test_several_files_become_a_strip_in_which_each_has_its_result(visit: Visit) -> None:
    plain = jpeg(Image.new("RGB", (300, 200), "white"))
    visit.hand_over(
        ("photo.jpg", "image/jpeg", sample_image().read_bytes()),
        ("plain.jpg", "image/jpeg", plain),
        ("notes.txt", "text/plain", b"words"),
    )
    visit.page.locator("#thumbs button[aria-label^='notes.txt: notes.txt is not an image']").wait_for()
    visit.page.locator("#thumbs button[aria-label='plain.jpg: 0 objects']").click()
    visit.wait_for("plain.jpg")
    assert visit.rows() == []
    assert visit.page.locator("#headline").inner_text() == "No objects"
    with visit.page.expect_download() as download:
        visit.page.locator("#save-all").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert [json.loads(line)["source"] for line in lines] == ["photo.jpg", "plain.jpg"]


def test_a_rotated_photograph_is_upright_and_its_boxes_fit(visit: Visit, detector: Detector) -> None:
    upright = Image.open(sample_image()).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side; viewers turn it by 90 degrees clockwise
    visit.hand_over(("turned.jpg", "image/jpeg", jpeg(upright.transpose(Image.Transpose.ROTATE_90), exif=exif)))
    visit.wait_for("turned.jpg")
    width, height = visit.page.evaluate("(c => [c.width, c.height])(document.querySelector('#canvas'))")
    assert abs(width / height - upright.width / upright.height) < 0.01
    document = visit.document()
    assert document["image_size"] == [upright.width, upright.height]
    best = detector(upright).boxes[0]
    assert np.abs(np.array(document["detections"][0]["box"]) - best).max() < 12  # other JPEG blocks, other last digits
    stripes = [visit.page.evaluate(LOOK, (0.15, 0.3)), visit.page.evaluate(LOOK, (0.9, 0.1))]
    for stripe, place in zip(stripes, ((0.15, 0.3), (0.9, 0.1))):
        pixel = np.array(upright)[int(place[1] * upright.height), int(place[0] * upright.width)]
        assert np.abs(np.array(stripe).reshape(-1, 4)[:, :3].mean(0) - pixel).max() < 60


def test_a_format_that_browsers_cannot_show_comes_back_as_a_jpeg(visit: Visit, detector: Detector) -> None:
    content = encoded(Image.open(sample_image()).convert("RGB"), "TIFF")
    visit.hand_over(("scan.tif", "image/tiff", content))
    visit.wait_for("scan.tif")
    assert visit.rows() == expected(detector, content, own_threshold())
    assert visit.page.locator("#canvas").is_visible()


def test_labels_are_the_best_score_of_each_class(visit: Visit, detector: Detector) -> None:
    visit.drop_photo()
    visit.tab("labels")
    best: dict[str, float] = {}
    found = detector(sample_image())
    for name, score in zip(found.names, found.scores):
        best.setdefault(name, round(float(score), 3))
    more = visit.page.get_by_role("button", name="Show all")
    if more.count():
        more.click()
    lines = visit.page.locator(".bars li").all_inner_texts()
    assert [line.split("\n") for line in lines] == [[name, f"{score:.3f}"] for name, score in best.items()]
    widths = visit.page.locator(".bars i").evaluate_all("bars => bars.map(bar => parseFloat(bar.style.width))")
    assert widths == pytest.approx([100 * score for score in best.values()], abs=0.1)


def test_why_says_what_inspect_why_says(visit: Visit, detector: Detector) -> None:
    visit.drop_photo()
    visit.page.locator("[role=option]").first.click()
    visit.page.get_by_role("button", name="Why?").click()
    visit.page.locator(".candidates").wait_for()
    box = [round(float(side), 2) for side in detector(sample_image()).boxes[0]]
    levels, candidates = explain_object(detector, sample_image(), box=box)
    lines = [line.replace("\n", " ") for line in visit.page.locator(".candidates button").all_inner_texts()]
    assert len(lines) == len(candidates) > 1
    words = {"kept": "Kept", "suppressed": "Suppressed", "below": "Below the threshold"}
    for line, candidate in zip(lines, candidates):
        name = detector.class_names[candidate.label]
        fate = candidate.fate if candidate.score > own_threshold() else "below"
        assert line.startswith(
            f"{name} {candidate.score:.2f} · IoU {candidate.iou:.2f} Cell of stride {candidate.stride}"
        )
        assert words[fate] in line
    assert {candidate.fate for candidate in candidates} == {"kept", "suppressed"}
    cells = [line.split("\t") for line in visit.page.locator("tbody tr").all_inner_texts()]
    assert [(row[0], row[1]) for row in cells] == [(f"stride {level.stride}", str(level.points)) for level in levels]
    asked = len(visit.requests)
    visit.page.locator("#threshold").fill("1")
    assert "10 not above 1.00" in visit.page.locator("#panel").inner_text()
    assert len(visit.requests) == asked


def test_a_click_on_the_canvas_chooses_the_object_under_it(visit: Visit, detector: Detector) -> None:
    visit.drop_photo()
    visit.tab("why")
    canvas = visit.page.locator("#canvas").bounding_box()
    visit.page.mouse.click(canvas["x"] + canvas["width"] / 2, canvas["y"] + canvas["height"] / 2)
    visit.page.locator(".candidates").wait_for()
    assert visit.page.locator("#panel h3").first.inner_text().startswith("person 0.")
    assert len(visit.posted("why")) == 1


def test_a_place_is_marked_with_the_mouse_and_by_keyboard(visit: Visit) -> None:
    visit.drop_photo()
    visit.tab("why")
    visit.page.get_by_role("button", name="Mark a missed object").click()
    canvas = visit.page.locator("#canvas").bounding_box()
    points = [(canvas["x"] + part * canvas["width"], canvas["y"] + part * canvas["height"]) for part in (0.25, 0.75)]
    visit.page.mouse.move(*points[0])
    visit.page.mouse.down()
    visit.page.mouse.move(*points[1], steps=4)
    visit.page.mouse.up()
    visit.page.locator("#panel tbody tr").first.wait_for()
    assert _box(visit.posted("why")[-1]) == pytest.approx([128, 150, 384, 450], abs=2)
    visit.page.get_by_role("button", name="Mark a missed object").click()
    for key in ("ArrowLeft", "ArrowUp", "Shift+ArrowRight", "Enter"):
        visit.page.keyboard.press(key)
    visit.page.locator("#panel tbody tr").first.wait_for()
    # From the middle (35 % to 65 %) it moves by 2 % of a side; Shift moves the lower right corner alone.
    assert _box(visit.posted("why")[-1]) == pytest.approx([512 * 0.33, 600 * 0.33, 512 * 0.65, 600 * 0.63], abs=0.02)


def _box(url: str) -> list[float]:
    return [float(side) for side in re.findall(r"box=([^&]+)", url)[0].replace("%2C", ",").split(",")]


def test_json_is_what_is_shown_and_follows_the_schema(visit: Visit, detector: Detector) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = Path("yolo_lite/messages/frame.schema.json").read_text()
    visit.drop_photo()
    visit.page.locator("#threshold").fill("0.2")
    document = visit.document()
    jsonschema.validate(document, json.loads(schema))
    found = detector(sample_image())
    above = found.scores > 0.2
    assert [row["score"] for row in document["detections"]] == pytest.approx(found.scores[above].tolist(), abs=1e-6)
    boxes = np.array([row["box"] for row in document["detections"]])
    assert np.abs(boxes - found.boxes[above]).max() < 0.01


def _send(command: str) -> dict[str, Any]:
    """Send a photograph to the address of a command, and return the answer."""
    url = re.findall(r"'(http://[^']+)'", command)[0]
    request = urllib.request.Request(url, sample_image().read_bytes(), {"Content-Type": "image/jpeg"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def test_the_command_gives_what_is_shown(visit: Visit) -> None:
    visit.drop_photo()
    visit.page.locator("#threshold").fill("0.2")
    everything = len(visit.rows())
    visit.page.locator("[data-class-name=person]").click()
    shown = visit.document()["detections"]
    assert 0 < len(shown) < everything
    command = visit.page.locator("pre[aria-label=Command]").inner_text()
    assert _send(command)["detections"] == shown


@pytest.mark.parametrize(
    ("extra", "hidden", "note"),
    [
        ([], "all", "A request cannot hide every class."),
        (["knife, fork"], "person", "A request cannot name the class “knife, fork”"),
        ([" knife"], "person", "A request cannot name the class “ knife”"),
    ],
)
def test_a_note_stands_in_for_a_command_that_would_give_another_answer(
    extra: list[str], hidden: str, note: str, visit: Visit, detector: Detector
) -> None:
    """The page is told that the model has the classes of the photograph, and one more."""
    names = sorted({name for name, _ in expected(detector, sample_image().read_bytes(), 0.2)})

    def rename(route: Any) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "class_names": [*names, *extra]})

    visit.page.route("**/v1/model?*", rename)
    visit.open()
    visit.drop_photo()
    visit.page.locator("#threshold").fill("0.2")
    visit.tab("json")
    command = visit.page.locator("pre[aria-label=Command]")
    assert "classes=" not in command.inner_text()  # all are shown: no name needs to be sent
    for name in names if hidden == "all" else [hidden]:
        visit.page.locator(f"[data-class-name='{name}']").click()
    assert note in visit.page.locator("#panel").text_content()
    assert command.count() == visit.page.locator("[data-key=copy-command]").count() == 0
    visit.page.get_by_role("button", name="Show all").click()
    assert "curl" in command.inner_text()


def test_downloads_hold_the_full_image_and_the_document(visit: Visit, detector: Detector) -> None:
    visit.page.set_viewport_size({"width": 375, "height": 800})  # the canvas is smaller than the image here
    visit.drop_photo()
    visit.page.locator("#caption").select_option("none")
    with visit.page.expect_download() as image:
        visit.page.locator("#save-image").click()
    assert image.value.suggested_filename == "photo-annotated.jpg"
    original = np.array(Image.open(sample_image()).convert("RGB"), np.int16)
    annotated = np.array(Image.open(image.value.path()).convert("RGB"), np.int16)
    assert annotated.shape == original.shape
    changed = np.abs(annotated - original).max(2) > 60
    x1, y1, x2, y2 = (round(float(side)) for side in detector(sample_image()).boxes[0])
    near = np.zeros(changed.shape, bool)
    near[max(0, y1 - 6) : y2 + 6, max(0, x1 - 6) : x2 + 6] = True
    near[y1 + 6 : y2 - 6, x1 + 6 : x2 - 6] = False
    assert changed[near].mean() > 0.3  # the frame of the box
    assert changed[~near].mean() < 0.001  # nothing else
    with visit.page.expect_download() as document:
        visit.page.locator("#save-json").click()
    assert document.value.suggested_filename == "photo.json"
    assert json.loads(Path(document.value.path()).read_text()) == visit.document()


def test_tiles_ask_again(visit: Visit) -> None:
    visit.drop_photo()
    visit.page.locator("#tiles").select_option("2x2")
    visit.page.locator("#busy").wait_for(state="hidden")
    visit.wait_for("photo.jpg")
    assert "tiles=2x2" in visit.posted("detect")[-1]
    tiled = Detector(NAME, device="cpu", score_threshold=0.05, tiles="2x2")
    assert visit.rows() == expected(tiled, sample_image().read_bytes(), own_threshold())


def test_the_camera_takes_a_picture(visit: Visit) -> None:
    visit.page.locator("#camera").click()
    visit.page.locator("#take").click()
    visit.wait_for("camera.jpg")
    assert visit.page.locator("#camera-bar").is_hidden()
    assert len(visit.posted("detect")) == 1
    assert visit.printed == []


def test_two_clicks_during_the_permission_prompt_open_one_camera(visit: Visit) -> None:
    visit.page.evaluate(PROMPT)
    visit.page.locator("#camera").click(click_count=2)
    assert visit.page.evaluate("window.prompts()") == 1
    visit.page.evaluate("window.allow()")
    visit.page.locator("#camera-bar").wait_for()
    assert visit.page.evaluate(RUNNING) == [True]
    visit.page.locator("#camera-close").click()
    assert visit.page.evaluate(RUNNING) == [False]
    assert visit.printed == []


def test_an_image_that_is_opened_during_the_permission_prompt_stays(visit: Visit, detector: Detector) -> None:
    visit.page.evaluate(PROMPT)
    visit.page.locator("#camera").click()
    visit.drop_photo()
    visit.page.evaluate("window.allow()")
    visit.page.wait_for_timeout(300)
    assert visit.page.evaluate(RUNNING) == [False]
    assert visit.page.locator("#camera-bar").is_hidden()
    assert visit.rows() == expected(detector, sample_image().read_bytes(), own_threshold())
    visit.page.locator("#camera").click()  # it can be opened later
    visit.page.evaluate("window.allow()")
    visit.page.locator("#camera-bar").wait_for()
    assert visit.page.evaluate(RUNNING) == [False, True]
    assert visit.printed == []


@pytest.mark.parametrize("end", ["button", "hidden"])
def test_live_frames_follow_each_other_until_they_are_stopped(end: str, visit: Visit) -> None:
    waiting = [0, 0]  # requests under way: now, and at most

    def count(route: Any) -> None:
        waiting[0] += 1
        waiting[1] = max(waiting)
        route.continue_()

    visit.page.route("**/v1/detect?*", count)
    visit.page.on(
        "requestfinished", lambda request: waiting.__setitem__(0, waiting[0] - ("/v1/detect?" in request.url))
    )
    visit.page.locator("#camera").click()
    visit.page.locator("#live").click()
    visit.page.locator("#meter", has_text="frames/s").wait_for()
    visit.page.wait_for_timeout(1000)
    sizes = visit.page.locator("#facts").inner_text()
    if end == "button":
        visit.page.locator("#live").click()
    else:
        visit.page.evaluate(HIDE)
    visit.page.locator("#camera-bar").wait_for(state="hidden")
    visit.page.wait_for_timeout(200)
    sent = len(visit.posted("detect"))
    assert sent > 3
    assert waiting[1] == 1  # one frame at a time
    side = max(map(int, re.findall(r"(\d+) × (\d+) px", sizes)[0]))
    assert side <= 2 * max(Detector(NAME, device="cpu").image_size)
    visit.page.wait_for_timeout(700)
    assert len(visit.posted("detect")) == sent  # it has stopped
    assert visit.page.evaluate("document.querySelector('#video').srcObject") is None
    assert visit.printed == []


def test_the_last_live_frame_can_be_asked_about(browser: Any, shapes: Path) -> None:
    with running_server(weights=(NAME, f"shapes={shapes}")) as address:
        context = browser.new_context()
        visit = Visit(context.new_page(), address)
        visit.open()
        visit.page.locator("#camera").click()
        visit.page.locator("#live").click()
        visit.page.locator("#meter", has_text="frames/s").wait_for()
        visit.page.locator("#live").click()
        visit.tab("labels")
        visit.page.locator(".bars").wait_for()
        assert len(visit.posted("classify")) == 1
        visit.tab("why")
        visit.page.get_by_role("button", name="Mark a missed object").click()
        visit.page.keyboard.press("Enter")
        visit.page.locator("#panel tbody tr").first.wait_for()
        assert len(visit.posted("why")) == 1
        assert visit.printed == []
        context.close()


def test_tabs_and_objects_by_keyboard(visit: Visit) -> None:
    visit.drop_photo()
    visit.page.locator("#threshold").fill("0.2")
    visit.page.locator("#tab-objects").focus()
    press, focused = visit.page.keyboard.press, "document.activeElement.id || document.activeElement.dataset.key"
    for key, tab in (
        ("ArrowRight", "labels"),
        ("End", "json"),
        ("ArrowRight", "objects"),
        ("ArrowLeft", "json"),
        ("Home", "objects"),
    ):
        press(key)
        assert visit.page.evaluate(focused) == f"tab-{tab}"
        assert visit.page.locator("[role=tab][aria-selected=true]").evaluate_all("tabs => tabs.map(tab => tab.id)") == [
            f"tab-{tab}"
        ]
    press("Tab")
    assert visit.page.evaluate(focused) == "object-0"
    press("ArrowDown")
    assert visit.page.evaluate(focused) == "object-1"
    assert visit.page.locator("[role=option][aria-selected=true]").count() == 1
    press("Enter")
    visit.page.locator(".candidates").wait_for()
    assert visit.page.locator("[aria-selected=true]").first.get_attribute("id") == "tab-why"


def test_every_control_is_reached_with_the_tab_key(visit: Visit) -> None:
    visit.drop_photo()
    reached = set()
    for _ in range(40):
        visit.page.keyboard.press("Tab")
        reached.add(visit.page.evaluate("document.activeElement.id || document.activeElement.dataset.key || ''"))
        style = visit.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert style != "none" or "" in reached  # what has the focus shows it
    assert reached >= {
        "choose",
        "paste",
        "camera",
        "caption",
        "tiles",
        "threshold",
        "tab-objects",
        "object-0",
        "save-image",
        "save-json",
    }


def test_a_server_that_is_busy_is_asked_again(visit: Visit, detector: Detector) -> None:
    tries: list[int] = []

    def busy_once(route: Any) -> None:
        tries.append(1)
        if len(tries) > 1:
            route.continue_()
            return
        route.fulfill(status=503, headers={"Retry-After": "1"}, json={"error": "The queue is full."})

    visit.page.route("**/v1/detect?*", busy_once)
    visit.drop_photo()
    assert len(tries) == 2
    assert visit.rows() == expected(detector, sample_image().read_bytes(), own_threshold())


@pytest.mark.parametrize("tries", [1, 4], ids=["answered", "refused"])
def test_the_busy_note_goes_once_the_labels_are_answered(tries: int, browser: Any, shapes: Path) -> None:
    asked: list[str] = []

    def busy(route: Any) -> None:
        asked.append(route.request.url)
        if len(asked) > tries:
            route.continue_()
            return
        route.fulfill(status=429, headers={"Retry-After": "1"}, json={"error": "The queue is full."})

    with running_server(weights=(NAME, f"shapes={shapes}")) as address:
        context = browser.new_context()
        visit = Visit(context.new_page(), address)
        visit.open()
        visit.drop_photo()
        visit.page.route("**/v1/classify?*", busy)
        visit.tab("labels")
        visit.page.locator("#busy", has_text="The server is busy.").wait_for()
        visit.page.locator("#panel", has_text="disc" if tries < 4 else "The queue is full.").wait_for()
        assert len(asked) == min(tries + 1, 4)
        assert visit.page.locator("#busy").is_hidden()
        context.close()


def test_a_server_that_is_gone_is_said_and_asked_again(visit: Visit) -> None:
    visit.page.route("**/v1/detect?*", lambda route: route.abort())
    visit.hand_over(("photo.jpg", "image/jpeg", sample_image().read_bytes()))
    assert visit.alert().startswith("The server did not answer.")
    visit.page.unroute("**/v1/detect?*")
    visit.page.get_by_role("button", name="Try again").click()
    visit.wait_for("photo.jpg")
    assert visit.rows()[0][0] == "person"


def test_a_token_is_asked_for_and_kept_in_memory_alone(browser: Any) -> None:
    with running_server("--token", "open-sesame") as address:
        context = browser.new_context()
        visit = Visit(context.new_page(), address)
        visit.page.goto(address)
        for attempt in ("wrong", "open-sesame"):
            visit.page.locator("#token-dialog").wait_for()
            visit.page.locator("#token").fill(attempt)
            visit.page.keyboard.press("Enter")
            if attempt == "wrong":
                visit.page.locator("#token-note", has_text="did not accept").wait_for()
        visit.page.locator("#models").wait_for()
        visit.drop_photo()
        assert visit.rows()[0][0] == "person"
        assert context.storage_state() == {"cookies": [], "origins": []}
        assert not any("sesame" in url for url in visit.requests)
        visit.page.reload()
        visit.page.locator("#token-dialog").wait_for()
        context.close()


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of two classes, trained for a moment."""
    root = tmp_path_factory.mktemp("shapes")
    data = write_class_set(root / "data", {"train": {"disc": 8, "square": 8}, "val": {"disc": 4, "square": 4}})
    settings = {**QUICK, "train.epochs": 1, "train.preflight": False}
    return train_classifier(data, config="lenet", out=root / "run", settings=settings, device="cpu") / "best.pt"


def test_a_classifier_beside_a_detector_gives_the_labels(browser: Any, shapes: Path) -> None:
    content = sample_image().read_bytes()
    scores = Classifier(shapes, device="cpu")(Image.open(io.BytesIO(content))).scores
    best = "disc" if scores[0] > scores[1] else "square"
    bars = [[name, f"{score:.3f}"] for score, name in sorted(zip(scores, ("disc", "square")), reverse=True)]
    with running_server(weights=(NAME, f"shapes={shapes}")) as address:
        context = browser.new_context()
        visit = Visit(context.new_page(), address)
        visit.open()
        visit.drop_photo()
        visit.tab("labels")
        visit.page.locator(".bars").wait_for()
        assert [line.split("\n") for line in visit.page.locator(".bars li").all_inner_texts()] == bars
        visit.page.locator("#labels-from").select_option(NAME)
        assert visit.page.locator(".bars li").first.inner_text().startswith("person")
        assert len(visit.posted("classify")) == 1
        visit.page.locator("#model").select_option("shapes")  # the same image again
        visit.page.locator("#headline", has_text=best).wait_for()
        assert [row["class_name"] for row in visit.document()["labels"]] == [name for name, _ in bars]
        assert visit.page.locator("#controls").is_hidden()
        visit.page.locator("#model").select_option(NAME)
        visit.page.locator("#headline", has_text="object").wait_for()
        visit.tab("objects")
        assert visit.rows()[0][0] == "person"
        assert visit.printed == []
        context.close()


@pytest.mark.parametrize("slow_one_fails", [False, True], ids=["slow", "failed"])
def test_of_two_changes_of_the_model_the_later_one_counts(slow_one_fails: bool, browser: Any, shapes: Path) -> None:
    held: list[Any] = []
    with running_server(weights=(NAME, f"shapes={shapes}")) as address:
        context = browser.new_context()
        visit = Visit(context.new_page(), address)
        visit.open()
        visit.drop_photo()
        rows = visit.rows()
        visit.page.route("**/v1/model?model=shapes", lambda route: held.append(route))
        visit.page.locator("#model").select_option("shapes")
        with visit.page.expect_response("**/v1/detect?*"):
            visit.page.locator("#model").select_option(NAME)
        assert len(held) == 1
        if slow_one_fails:
            held[0].fulfill(status=500, json={"error": "No memory is left."})
        else:
            held[0].continue_()
        visit.page.wait_for_timeout(500)
        assert visit.page.locator("#model").input_value() == NAME
        assert visit.page.locator("#headline").inner_text() == "1 object"
        assert visit.rows() == rows
        assert visit.page.locator("[role=alert] p").count() == 0
        assert visit.posted("classify") == []
        context.close()


def test_a_change_of_the_model_that_fails_lets_the_present_one_finish(
    browser: Any, shapes: Path, detector: Detector
) -> None:
    held: list[Any] = []

    def hold(route: Any) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    content = sample_image().read_bytes()
    with running_server(weights=(NAME, f"shapes={shapes}")) as address:
        context = browser.new_context()
        visit = Visit(context.new_page(), address)
        visit.open()
        visit.page.route("**/v1/detect?*", hold)
        refusal = {"status": 500, "json": {"error": "No memory is left."}}
        visit.page.route("**/v1/model?model=shapes", lambda route: route.fulfill(**refusal))
        visit.hand_over(("photo.jpg", "image/jpeg", content), ("second.jpg", "image/jpeg", content))
        visit.page.locator("#headline", has_text="Looking").wait_for()
        visit.page.locator("#model").select_option("shapes")
        assert visit.alert() == "No memory is left."
        assert visit.page.locator("#model").input_value() == NAME
        held[0].continue_()
        visit.page.locator("#thumbs button[aria-label='second.jpg: 1 object']").wait_for()
        assert visit.rows() == expected(detector, content, own_threshold())
        assert visit.page.locator("#busy").is_hidden()
        context.close()


def test_an_exported_file_says_why_it_explains_nothing(browser: Any, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from yolo_lite.exporting.export import export

    file = export("yolo_lite-pico-voc5", tmp_path / "small.onnx", score_threshold=0.2, check=False)
    with running_server(weights=(str(file),)) as address:
        context = browser.new_context()
        visit = Visit(context.new_page(), address)
        visit.open()
        assert visit.page.locator("#model-line").inner_text() == "ONNX Runtime on CPU"
        visit.drop_photo()
        assert "score_threshold=0.2" in visit.posted("detect")[0]  # the lowest that the file knows
        assert visit.rows()[0][0] == "person"
        visit.page.locator("[role=option]").first.click()
        visit.tab("why")
        visit.page.locator("#panel p", has_text="Explanations need a checkpoint; small is an exported file").wait_for()
        context.close()


@pytest.mark.parametrize("width", [375, 768, 1280])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_view_fits_and_can_be_read(theme: str, width: int, browser: Any, address: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 860}, color_scheme=theme, device_scale_factor=2)
    visit = Visit(context.new_page(), address)
    visit.open()
    views: list[tuple[str, Callable[[], object]]] = [
        ("empty", lambda: None),
        ("objects", lambda: (visit.drop_photo(), visit.page.locator("#threshold").fill("0.2"))),
        ("chosen", lambda: visit.page.locator("[role=option]").first.click()),
        ("why", lambda: (visit.tab("why"), visit.page.locator(".candidates").wait_for())),
        ("labels", lambda: visit.tab("labels")),
        ("json", lambda: visit.tab("json")),
        ("error", lambda: (visit.hand_over(("notes.txt", "text/plain", b"x")), visit.alert())),
        ("about", lambda: visit.page.locator("#about-open").click()),
    ]
    for name, act in views:
        act()
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
        contrast = visit.page.evaluate(CONTRAST)
        assert len(contrast) > 10
        disabled = {"BUTTON."} if name == "empty" else set()
        assert {key: value for key, value in contrast.items() if value < 4.5 and key not in disabled} == {}
    background = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background)[:3])) > 600) == (theme == "light")
    ratio = visit.page.evaluate("(c => c.width / c.clientWidth)(document.querySelector('#canvas'))")
    assert ratio == pytest.approx(2, abs=0.01)  # sharp on a screen of two pixels a unit
    assert visit.printed == []
    assert [url for url in visit.requests if not url.startswith((address, "data:", "blob:"))] == []
    context.close()
