"""Messages to Kafka: with librdkafka's own mock of a cluster, and with a real broker on this machine."""

from __future__ import annotations

import json
import statistics
import time
import uuid
from types import SimpleNamespace

import pytest

from tests.messages.conftest import Gate, detected
from yolo_lite.errors import InputError
from yolo_lite.messages import kafka as kafka_module
from yolo_lite.messages.frame import encode_frame
from yolo_lite.messages.kafka import KafkaSender
from yolo_lite.messages.targets import Messages, Report, parse_target

confluent_kafka = pytest.importorskip("confluent_kafka")
NOBODY = parse_target("kafka://127.0.0.1:1/frames")
MOCK = {"test.mock.num.brokers": 1}


def consume(servers: str, count: int, *, topic: str = "frames", seconds: float = 60) -> list[tuple[bytes, bytes]]:
    """Return key and value of the messages of a topic, at least `count` if they come in time, and any that follow."""
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": servers, "group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest"}
    )
    consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])
    got: list[tuple[bytes, bytes]] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        message = consumer.poll(0.5)
        if message is None:
            if len(got) >= count:
                break
        elif not message.error():
            got.append((message.key(), message.value()))
    consumer.close()
    return got


def test_all_messages_are_delivered_to_a_mock_cluster() -> None:
    sender = KafkaSender(NOBODY, settings=MOCK)
    for number in range(500):
        sender.send("camera 0", encode_frame(detected(number)))
    assert sender.close(10) == Report(sent=500, delivered=500)


def test_a_full_queue_drops_and_counts_without_waiting() -> None:
    """Nothing leaves the queue of five before the linger time is over."""
    sender = KafkaSender(NOBODY, settings={**MOCK, "linger.ms": 60_000, "queue.buffering.max.messages": 5})
    began = time.monotonic()
    for number in range(20):
        sender.send("camera 0", encode_frame(detected(number)))
    assert time.monotonic() - began < 50
    report = sender.close(0.1)
    assert (report.sent, report.dropped, report.delivered + report.failed) == (5, 15, 5)


def test_no_broker_gets_a_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(kafka_module, "REACH", 0.5)
    with pytest.raises(InputError) as caught:
        KafkaSender(NOBODY)
    assert str(caught.value) == (
        "kafka://127.0.0.1:1/frames: no broker answers within 0.5 s (Connection refused); is one running there?"
    )
    assert capfd.readouterr() == ("", "")


def test_a_missing_topic_gets_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The brokers at hand create a topic when they are asked for it, so the answer of others is put in here."""
    unknown = confluent_kafka.KafkaError(confluent_kafka.KafkaError.UNKNOWN_TOPIC_OR_PART)
    answer = SimpleNamespace(topics={"frames": SimpleNamespace(error=unknown)})
    monkeypatch.setattr(
        confluent_kafka, "Producer", lambda settings: SimpleNamespace(list_topics=lambda *_, timeout: answer)
    )
    with pytest.raises(InputError) as caught:
        KafkaSender(NOBODY)
    assert str(caught.value) == (
        "kafka://127.0.0.1:1/frames: no topic frames (Broker: Unknown topic or partition); create it first"
    )


@pytest.mark.slow
def test_5000_frames_reach_a_real_broker_once_and_in_order(kafka_broker: Gate) -> None:
    target = parse_target(f"kafka://127.0.0.1:{kafka_broker.port}/frames")
    with Messages([target]) as messages:
        for number in range(5000):
            messages.send(detected(number))
            time.sleep(0.0002)
    assert messages.reports[target.name] == Report(sent=5000, delivered=5000)
    got = consume(f"127.0.0.1:{kafka_broker.port}", 5000)
    assert {key for key, _ in got} == {b"camera 0"}
    assert [json.loads(value)["frame"] for _, value in got] == list(range(5000))


@pytest.mark.slow
def test_a_broker_that_is_away_costs_nothing_and_gets_everything_on_its_return(kafka_broker: Gate) -> None:
    """Sending must not slow detection (here 20 ms a frame) by more than 2 %, and no message may be lost or doubled."""
    sender = KafkaSender(parse_target(f"kafka://127.0.0.1:{kafka_broker.port}/frames"))
    costs: dict[bool, list[float]] = {True: [], False: []}
    for number in range(900):
        if number == 300:
            kafka_broker.close()
        if number == 600:
            kafka_broker.open()
        value = encode_frame(detected(number))
        began = time.perf_counter()
        sender.send("camera 0", value)
        costs[300 <= number < 600].append(time.perf_counter() - began)
        time.sleep(0.01)
    assert sender.close(30) == Report(sent=900, delivered=900)
    got = consume(f"127.0.0.1:{kafka_broker.port}", 900)
    assert [json.loads(value)["frame"] for _, value in got] == list(range(900))
    away, there = (statistics.median(costs[down]) for down in (True, False))
    assert away < 0.02 * 0.020
    assert there < 0.02 * 0.020


@pytest.mark.slow
def test_the_time_from_capture_to_arrival_is_short(kafka_broker: Gate) -> None:
    sender = KafkaSender(parse_target(f"kafka://127.0.0.1:{kafka_broker.port}/frames"))
    settings = {"bootstrap.servers": f"127.0.0.1:{kafka_broker.port}", "group.id": "latency", "fetch.wait.max.ms": 10}
    consumer = confluent_kafka.Consumer(settings)
    consumer.assign([confluent_kafka.TopicPartition("frames", 0, 0)])
    delays: list[float] = []
    for number in range(200):
        began = time.monotonic()
        sender.send("camera 0", encode_frame(detected(number)))
        while (message := consumer.poll(1)) is None or message.error():
            assert time.monotonic() - began < 60
        delays.append(time.monotonic() - began)
    consumer.close()
    sender.close(5)
    assert statistics.median(delays[5:]) < 0.1
