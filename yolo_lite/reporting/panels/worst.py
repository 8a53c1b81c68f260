"""The section on the worst images: what was missed, what was invented, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from yolo_lite.reporting.markup import Content, Html, element, image, name_text
from yolo_lite.reporting.section import Section, finding, heading, section
from yolo_lite.reporting.values import counted, decimal, number, word


def worst_section(report: Mapping[str, Any]) -> Section | None:
    """Return the images with most missed objects and most confident false alarms, or a classifier's worst mistakes.

    Example:
        >>> mistake = {"image": "a.jpg", "truth": "cat", "called": "dog", "score": 0.98, "shown": None}
        >>> worst_section({"task": "classify", "worst": [mistake]}).title
        'Worst images'
    """
    worst = report.get("worst")
    if not worst:
        return None
    if not isinstance(worst, Mapping):
        cards = element("div", [_mistake(each) for each in worst], class_="cards small-cards")
        text = (
            "Mistakes with the highest scores, the most confident first. Check the label before you blame the network."
        )
        return section("worst", "Worst images", element("p", text, class_="reading"), cards)
    missed, false_alarms = worst.get("missed") or [], worst.get("false_alarms") or []
    if not missed and not false_alarms:
        return section("worst", "Worst images", finding("No object was missed, and there is no false alarm."))
    at = decimal(worst.get("score_threshold"), places=2)
    text = f"The ground truth beside what was detected at a score threshold of {at}. Crosses mark what is wrong."
    return section(
        "worst",
        "Worst images",
        element("p", text, class_="reading"),
        _group("Most missed objects", missed, "No object was missed."),
        _group("Most confident false alarms", false_alarms, "There is no false alarm."),
    )


def _group(title: str, cards: Sequence[Mapping[str, Any]], nothing: str) -> list[Content]:
    if not cards:
        return [heading(title), element("p", nothing)]
    return [heading(title), element("div", [_card(each) for each in cards], class_="cards")]


def _card(each: Mapping[str, Any]) -> Html:
    """Return an image with its ground truth, the same with the detections, and the reasons."""
    name = str(each.get("image") or "image")
    text = str(each.get("text") or f"{name}: {_counts(each)}")
    reasons = [element("li", str(reason)) for reason in each.get("reasons") or [] if reason]
    why = None
    if reasons:
        why = element("div", element("p", "Why", class_="why"), element("ul", reasons), class_="reasons")
    return element(
        "article",
        element("header", element("strong", name_text(name)), element("span", _counts(each))),
        element(
            "div",
            _side(each.get("truth"), "ground truth", f"Ground truth of {text}"),
            _side(each.get("found"), "detections", f"Detections in {text}"),
            class_="sides",
        ),
        why,
        class_="card",
    )


def _side(source: object, label: str, text: str) -> Html:
    return element("div", image(source, text=text), element("span", label, class_="side"), class_="half")


def _counts(each: Mapping[str, Any]) -> str:
    parts = [counted(each.get("objects"), "object")]
    if number(each.get("missed")) is not None:
        parts.append(f"{decimal(each['missed'], places=0)} missed")
    if number(each.get("false_alarms")) is not None:
        parts.append(counted(each["false_alarms"], "false alarm"))
    if number(each.get("score")) is not None:
        parts.append(f"highest false score {decimal(each['score'], places=2)}")
    return ", ".join(parts)


def _mistake(each: Mapping[str, Any]) -> Html:
    name, truth, called = str(each.get("image") or "image"), word(each.get("truth")), word(each.get("called"))
    return element(
        "article",
        image(each.get("shown"), text=f"{name}: {truth}, called {called}"),
        element("p", name_text(truth), " called ", name_text(called), f" ({decimal(each.get('score'), places=2)})"),
        element("p", name_text(name), class_="side"),
        class_="card",
    )
