"""The engine: results are those of direct calls, whoever else asks; and it survives everything."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.serve.conftest import Stub
from yolo_lite.media.images import read_image
from yolo_lite.predict.files import sample_image
from yolo_lite.serve.engine import Engine, OverdueError, Work
from yolo_lite.serve.limits import RefusedError
from yolo_lite.serve.models import Choices, Model, Models, equal_batches, is_equal, open_model
from yolo_lite.structures.geometry import Image

LATER = time.monotonic() + 1e6


def pixels(value: int, hw: tuple[int, int] = (2, 3)) -> Image:
    return np.full((*hw, 3), value, np.uint8)


class Recorder:
    """Work that returns the first value of each image, and remembers its batches; it waits while the gate is closed."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate, self.begun = threading.Event(), threading.Event()
        self.gate.set()

    def __call__(self, images: list[Image]) -> list[int]:
        self.begun.set()
        assert self.gate.wait(60)
        values = [int(image[0, 0, 0]) for image in images]
        self.batches.append(values)
        if 99 in values:
            raise ZeroDivisionError("99 is too much")
        return values


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(queue=16)
    yield engine
    engine.close()


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.gate.set()


def put(engine: Engine, work: Work, value: int, *, deadline: float = LATER) -> Future[Any]:
    """Submit an image, and give its place back when it is done."""
    place = engine.admit()
    future = place.submit(work, pixels(value), deadline=deadline)
    future.add_done_callback(lambda _: place.__exit__())
    return future


def hold(engine: Engine, recorder: Recorder, work: Work) -> Future[Any]:
    """Let the engine begin a batch and stay in it, so that all further images wait."""
    recorder.gate.clear()
    recorder.begun.clear()
    first = put(engine, work, 0)
    assert recorder.begun.wait(60)
    return first


def test_what_waits_shares_batches_of_allowed_sizes_in_the_order_of_arrival(engine: Engine, recorder: Recorder) -> None:
    work = Work(recorder, "a", sizes=(1, 2, 4))
    first = hold(engine, recorder, work)
    waiting = [put(engine, work, value) for value in range(1, 8)]
    recorder.gate.set()
    assert [future.result(60) for future in (first, *waiting)] == list(range(8))
    assert recorder.batches == [[0], [1, 2, 3, 4], [5, 6], [7]]


def test_other_settings_do_not_share_a_batch_and_none_starves(engine: Engine, recorder: Recorder) -> None:
    one, other, alone = (Work(recorder, key, sizes=sizes) for key, sizes in (("a", (1, 8)), ("b", (1, 8)), ("a", (1,))))
    first = hold(engine, recorder, alone)
    works = [one, other] * 8
    waiting = [put(engine, work, value) for value, work in zip(range(1, 16), works)]
    recorder.gate.set()
    assert [future.result(60) for future in (first, *waiting)] == list(range(16))
    assert recorder.batches[1] == [1, 3, 5, 7, 9, 11, 13, 15]
    assert recorder.batches[2] == [2]  # 7 wait, and a batch has 1 or 8


def test_a_request_alone_does_not_wait_for_others(recorder: Recorder) -> None:
    engine = Engine(queue=4, wait=120)
    started = time.monotonic()
    assert put(engine, Work(recorder, "a", sizes=(1, 8)), 5).result(60) == 5
    engine.close()
    assert time.monotonic() - started < 60


def test_a_batch_waits_for_an_image_that_is_on_its_way(recorder: Recorder) -> None:
    engine = Engine(queue=4, wait=120)
    work = Work(recorder, "a", sizes=(1, 2))
    preparing = engine.admit()
    first = put(engine, work, 1)
    time.sleep(0.1)
    assert not first.done()
    with preparing:
        assert preparing.submit(work, pixels(2), deadline=LATER).result(60) == 2
    assert first.result(60) == 1
    assert recorder.batches == [[1, 2]]
    engine.close()


def test_a_batch_waits_no_longer_than_the_limit(recorder: Recorder) -> None:
    engine = Engine(queue=4, wait=0.05)
    with engine.admit():  # on its way for ever
        assert put(engine, Work(recorder, "a", sizes=(1, 2)), 1).result(60) == 1
    engine.close()


def test_a_full_queue_refuses_until_a_place_is_free(engine: Engine, recorder: Recorder) -> None:
    work = Work(recorder, "a", sizes=(1, 8))
    first = hold(engine, recorder, work)
    waiting = [put(engine, work, value) for value in range(1, 16)]
    for ask in (engine.admit, engine.check_open):
        with pytest.raises(RefusedError, match="16 requests are being worked on") as caught:
            ask()
        assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "1"})
    recorder.gate.set()
    assert [future.result(60) for future in (first, *waiting)] == list(range(16))
    engine.admit().__exit__()
    assert engine.places == 0


def test_a_place_that_never_submits_is_given_back(engine: Engine) -> None:
    for _ in range(100):
        with pytest.raises(KeyError), engine.admit():
            raise KeyError
    assert (engine.places, engine.waiting, engine._preparing) == (0, 0, 0)


def test_an_image_whose_turn_comes_too_late_is_not_worked_on(engine: Engine, recorder: Recorder) -> None:
    work = Work(recorder, "a", sizes=(1, 8))
    first = hold(engine, recorder, work)
    late, good = put(engine, work, 1, deadline=time.monotonic() + 0.01), put(engine, work, 2)
    time.sleep(0.05)
    recorder.gate.set()
    with pytest.raises(OverdueError):
        late.result(60)
    assert (first.result(60), good.result(60)) == (0, 2)
    assert recorder.batches == [[0], [2]]


def test_a_cancelled_image_is_not_worked_on(engine: Engine, recorder: Recorder) -> None:
    work = Work(recorder, "a")
    first = hold(engine, recorder, work)
    gone, good = put(engine, work, 1), put(engine, work, 2)
    assert gone.cancel()
    recorder.gate.set()
    with pytest.raises(CancelledError):
        gone.result(60)
    assert (first.result(60), good.result(60)) == (0, 2)
    assert recorder.batches == [[0], [2]]


def test_an_error_fails_its_own_image_and_nothing_else(engine: Engine, recorder: Recorder) -> None:
    work = Work(recorder, "a", sizes=(1, 2, 4))
    first = hold(engine, recorder, work)
    waiting = [put(engine, work, value) for value in (1, 99, 3, 4)]
    recorder.gate.set()
    assert first.result(60) == 0
    assert [waiting[place].result(60) for place in (0, 2, 3)] == [1, 3, 4]
    with pytest.raises(ZeroDivisionError):
        waiting[1].result(60)
    assert recorder.batches == [[0], [1, 99, 3, 4], [1], [99], [3], [4]]
    assert put(engine, work, 5).result(60) == 5


@pytest.mark.parametrize("error", [MemoryError(), SystemExit(1), KeyboardInterrupt(), RuntimeError("x" * 10_000)])
def test_the_thread_lives_on_whatever_a_network_raises(engine: Engine, error: BaseException) -> None:
    def fail(images: list[Image]) -> list[int]:
        raise error

    for _ in range(3):
        with pytest.raises(type(error)):
            put(engine, Work(fail, "a"), 1).result(60)
    assert engine.is_alive
    assert put(engine, Work(lambda images: [7] * len(images), "b"), 1).result(60) == 7


def test_a_network_that_returns_too_few_results_is_an_error(engine: Engine) -> None:
    with pytest.raises(RuntimeError, match="1 image gave 0 results"):
        put(engine, Work(lambda images: [], "a"), 1).result(60)


def test_closing_finishes_what_was_accepted_and_accepts_no_more(recorder: Recorder) -> None:
    engine = Engine(queue=16)
    work = Work(recorder, "a", sizes=(1, 2))
    first = hold(engine, recorder, work)
    waiting = [put(engine, work, value) for value in range(1, 6)]
    engine.stop()
    for _ in range(2):
        with pytest.raises(RefusedError, match="stopping") as caught:
            engine.admit()
        assert caught.value.status == 503
    closing = threading.Thread(target=engine.close)
    closing.start()
    recorder.gate.set()
    assert [future.result(60) for future in (first, *waiting)] == list(range(6))
    closing.join(60)
    assert not closing.is_alive()
    assert not engine.is_alive


def test_the_engine_keeps_no_image_once_it_is_done(engine: Engine) -> None:
    """Else the memory of the last batch would be held until the next one."""
    import weakref

    image = pixels(1)
    ghost = weakref.ref(image)
    with engine.admit() as place:
        future = place.submit(Work(lambda images: [1], "a"), image, deadline=LATER)
        assert future.result(60) == 1
    del image, future
    until = time.monotonic() + 60
    while ghost() is not None and time.monotonic() < until:
        time.sleep(0.01)
    assert ghost() is None


def test_an_image_that_nobody_waits_for_leaves_the_queue(engine: Engine, recorder: Recorder) -> None:
    """Else images of requests that took too long would pile up behind a long batch."""
    recorder.gate.clear()
    with engine.admit() as first:
        running = first.submit(Work(recorder, "a"), pixels(1), deadline=LATER)
        assert recorder.begun.wait(60)
        for value in range(2, 12):
            with engine.admit() as place:
                place.submit(Work(recorder, "a"), pixels(value), deadline=LATER).cancel()
        assert (engine.places, engine.waiting) == (1, 0)
        recorder.gate.set()
        assert running.result(60) == 1
    assert recorder.batches == [[1]]


def test_the_engine_survives_an_image_that_leaves_while_its_batch_waits(recorder: Recorder) -> None:
    engine, work = Engine(queue=4, wait=0.3), Work(recorder, "a", sizes=(1, 2))
    with engine.admit() as slow:
        with engine.admit() as place:
            place.submit(work, pixels(1), deadline=LATER).cancel()
        time.sleep(0.5)
        assert slow.submit(work, pixels(2), deadline=LATER).result(60) == 2
    engine.close()
    assert recorder.batches == [[2]]


def test_a_request_alone_does_not_wait_long_after_a_batch(recorder: Recorder) -> None:
    engine, work = Engine(queue=4, wait=120), Work(recorder, "a", sizes=(1, 2))
    with engine.admit() as first, engine.admit() as second:
        both = [place.submit(work, pixels(1), deadline=LATER) for place in (first, second)]
        assert [future.result(60) for future in both] == [1, 1]
    time.sleep(0.2)
    with engine.admit() as place:
        started = time.monotonic()
        assert place.submit(work, pixels(3), deadline=LATER).result(60) == 3
        assert time.monotonic() - started < 60
    engine.close()
    assert recorder.batches == [[1, 1], [3]]


def test_an_engine_that_is_closed_at_once_drops_what_waits(recorder: Recorder) -> None:
    engine = Engine(queue=4)
    recorder.gate.clear()
    with engine.admit() as first, engine.admit() as second:
        running = first.submit(Work(recorder, "a"), pixels(1), deadline=LATER)
        assert recorder.begun.wait(60)
        second.submit(Work(recorder, "a"), pixels(2), deadline=LATER)
        engine.close(wait=False)  # returns although the gate is closed
        recorder.gate.set()
        assert running.result(60) == 1
    assert recorder.batches == [[1]]


# Bit equality with direct calls


def crops(count: int) -> list[Image]:
    """Return crops of a photograph, all of different sizes."""
    image, generator = read_image(sample_image()), np.random.default_rng(3)
    found = []
    for _ in range(count):
        height, width = generator.integers(150, 590), generator.integers(150, 500)
        y, x = generator.integers(0, 600 - height), generator.integers(0, 512 - width)
        found.append(np.ascontiguousarray(image[y : y + height, x : x + width]))
    return found


NETWORKS = [
    "yolo_lite-pico-voc5",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("yolo_lite-shuffle-coco", "exported")),
]


@pytest.mark.slow
@pytest.mark.parametrize("weights", NETWORKS)
def test_eight_threads_with_images_of_all_sizes_get_what_a_direct_call_returns(
    weights: str, request: pytest.FixtureRequest
) -> None:
    """The oracle is the detector itself, called with one image; sizes and scores that are mixed up would show."""
    name = str(request.getfixturevalue("pico")) if weights == "exported" else weights
    model = open_model(name, Choices(device="cpu", threads=1))
    detector: Any = model.detector(score_threshold=0.1)
    images = crops(8)
    expected = [detector(image) for image in images]
    assert len({len(found) for found in expected}) > 3
    batches: list[int] = []
    engine = Engine(queue=32, on_batch=lambda count, seconds: batches.append(count))
    work = Work(detector, "a", sizes=model.batch_sizes)

    def ask(place: int) -> bool:
        with engine.admit() as taken:
            found = taken.submit(work, images[place], deadline=LATER).result(60)
        return is_equal(found, expected[place])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, [*range(8), *range(7, -1, -1)]))
    engine.close()
    assert sum(batches) == 16
    assert (max(batches) > 1) == (model.batch_sizes != (1,))


def test_batches_are_allowed_only_where_they_keep_the_bits() -> None:
    """torch computes the small layers of pico in another way for one image than for two: the check must see that."""
    detector: Any = open_model("yolo_lite-pico-voc5", Choices(device="cpu", batch_size=1)).detector(score_threshold=0.0)
    image = crops(1)[0]
    alone, together = detector(image), detector([image, image])[0]
    sizes = equal_batches(detector, 2)
    assert (2 in sizes) == is_equal(alone, together)


def test_a_batch_that_changes_one_bit_in_one_image_is_not_allowed() -> None:
    def whole(images: list[Image]) -> list[Any]:
        return [Stub.find(image) for image in images]

    assert equal_batches(whole, 4) == (1, 2, 4)

    def spoilt(images: list[Image]) -> Sequence[Any]:
        found = whole(images)
        if len(images) == 4:
            found[3].boxes[0, 2] = np.nextafter(found[3].boxes[0, 2], np.float32(9e9))
        return found

    assert equal_batches(spoilt, 4) == (1, 2)


def test_a_network_that_finds_nothing_in_the_check_gets_no_batches() -> None:
    from yolo_lite.structures.results import Detections

    nothing = Detections([], [], labels=[], class_names=("a",))
    assert equal_batches(lambda images: [nothing] * len(images), 8) == (1,)


def test_a_name_and_a_file_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from yolo_lite.serve.models import split_name

    monkeypatch.chdir(tmp_path)
    Path("a=b.pt").write_bytes(b"")
    cases = {
        "a=b.pt": ("a=b", "a=b.pt"),  # a file of this name is there
        "a=c.pt": ("a", "c.pt"),
        "run=x/y=z/best.pt": ("run", "x/y=z/best.pt"),
        "yolo_lite-shuffle-1.5x-coco": ("yolo_lite-shuffle-1.5x-coco", "yolo_lite-shuffle-1.5x-coco"),
        "=b.pt": ("=b", "=b.pt"),
        "runs/train-1/best.onnx": ("best", "runs/train-1/best.onnx"),
    }
    assert {text: split_name(text) for text in cases} == cases


def test_the_thread_warms_up_before_its_first_batch_and_stands_an_error(recorder: Recorder) -> None:
    threads: list[str] = []

    def warm_up() -> None:
        threads.append(threading.current_thread().name)
        assert recorder.batches == []
        raise RuntimeError("no memory")

    engine = Engine(queue=4, warm_up=warm_up)
    assert put(engine, Work(recorder, "a"), 5).result(60) == 5
    engine.close()
    assert threads == ["engine"]


def test_networks_warm_up_with_every_size_of_their_batches() -> None:
    sizes: list[int] = []

    def network(images: list[Image]) -> None:
        sizes.append(len(images))

    served: Any = network
    Models([Model("a", served, "detect", "torch", "cpu", batch_sizes=(1, 2, 4))]).warm_up()
    assert sizes == [1, 2, 4]
