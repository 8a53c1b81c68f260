"""Messages to MQTT, with Debian's broker on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.loopback import free_port
from tests.messages.conftest import Gate, detected
from yolo_lite.errors import InputError
from yolo_lite.messages import mqtt as mqtt_module
from yolo_lite.messages.frame import encode_frame
from yolo_lite.messages.mqtt import MqttSender
from yolo_lite.messages.targets import Messages, Report, parse_target

paho = pytest.importorskip("paho.mqtt.client")
Start = Callable[..., int]


class Listener:
    """Subscribes to everything and keeps what comes."""

    def __init__(self, port: int) -> None:
        self.got: list[tuple[str, bytes]] = []
        self.ready = threading.Event()
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self.client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self.client.on_subscribe = lambda *_: self.ready.set()
        self.client.on_message = lambda client, data, message: self.got.append((message.topic, message.payload))
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self.ready.wait(60)

    def wait(self, count: int, topic: str) -> list[bytes]:
        """Return the messages of a topic as soon as so many are there."""
        end = time.monotonic() + 60
        while time.monotonic() < end and len([name for name, _ in self.got if name == topic]) < count:
            time.sleep(0.02)
        return [payload for name, payload in self.got if name == topic]

    def stop(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def test_no_broker_gets_a_line() -> None:
    with pytest.raises(InputError) as caught:
        MqttSender(parse_target("mqtt://me:secret@127.0.0.1:1/frames"))
    assert str(caught.value) == (
        "mqtt://127.0.0.1:1/frames: the broker cannot be reached (Connection refused); is one running there?"
    )


@pytest.mark.slow
def test_5000_frames_reach_a_real_broker_once_and_in_order(start_mosquitto: Start) -> None:
    port = start_mosquitto("allow_anonymous true", "max_queued_messages 0")
    listener = Listener(port)
    target = parse_target(f"mqtt://127.0.0.1:{port}/yard/frames")
    with Messages([target]) as messages:
        for number in range(5000):
            messages.send(detected(number))
            time.sleep(0.0005)
    assert messages.reports[target.name] == Report(sent=5000, delivered=5000)
    assert [json.loads(value)["frame"] for value in listener.wait(5000, "yard/frames")] == list(range(5000))
    assert listener.wait(2, "yard/frames/status") == [b"online", b"offline"]
    listener.stop()


@pytest.mark.slow
def test_a_broker_that_is_away_gets_everything_on_its_return(start_mosquitto: Start) -> None:
    """QoS 1 may double a message that was under way, but none is lost."""
    port = start_mosquitto()
    gate, listener = Gate(port), Listener(port)
    sender = MqttSender(parse_target(f"mqtt://127.0.0.1:{gate.port}/frames"))
    seconds = []
    for number in range(300):
        if number == 100:
            gate.close()
        if number == 200:
            gate.open()
        began = time.perf_counter()
        sender.send("camera 0", encode_frame(detected(number)))
        seconds.append(time.perf_counter() - began)
        time.sleep(0.01)
    report = sender.close(20)
    assert (report.sent, report.dropped, report.failed) == (300, 0, 0)
    numbers = [json.loads(value)["frame"] for value in listener.wait(300, "frames")]
    assert list(dict.fromkeys(numbers)) == list(range(300))
    assert sorted(seconds)[250] < 0.1  # the broker was away for a third of them
    listener.stop()


@pytest.mark.slow
def test_a_full_queue_drops_and_counts(start_mosquitto: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_module, "QUEUE", 5)
    gate = Gate(start_mosquitto())
    sender = MqttSender(parse_target(f"mqtt://127.0.0.1:{gate.port}/frames"))
    gate.close()
    time.sleep(0.2)
    for number in range(50):
        sender.send("camera 0", encode_frame(detected(number)))
    report = sender.close(0.2)
    assert report.sent + report.dropped == 50
    assert report.dropped >= 40


@pytest.mark.slow
def test_the_last_will_reports_a_killed_sender(start_mosquitto: Start) -> None:
    port = start_mosquitto()
    listener = Listener(port)
    code = (
        "import os, time\n"
        "from yolo_lite.messages.mqtt import MqttSender\n"
        "from yolo_lite.messages.targets import parse_target\n"
        f"sender = MqttSender(parse_target('mqtt://127.0.0.1:{port}/frames'))\n"
        "time.sleep(0.3)\n"
        "os._exit(9)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], env=dict(os.environ), check=False)
    assert listener.wait(2, "frames/status") == [b"online", b"offline"]
    listener.stop()


@pytest.mark.slow
def test_a_wrong_password_gets_a_line(start_mosquitto: Start, tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.touch()
    passwords.chmod(0o600)
    subprocess.run(["mosquitto_passwd", "-b", str(passwords), "me", "right"], check=True, capture_output=True)
    passwords.chmod(0o644)
    tmp_path.chmod(0o755)
    port = start_mosquitto("allow_anonymous false", f"password_file {passwords}", "user root", port=free_port())
    sender = MqttSender(parse_target(f"mqtt://me:right@127.0.0.1:{port}/frames"))
    assert sender.close(1) == Report(sent=0, delivered=0)
    with pytest.raises(InputError, match=r"the broker refuses \(Not authorized\)"):
        MqttSender(parse_target(f"mqtt://me:wrong@127.0.0.1:{port}/frames"))
