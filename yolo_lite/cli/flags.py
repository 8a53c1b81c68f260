"""Every flag of the command line: its spelling, value, help, and the setting that it sets."""

from __future__ import annotations

import argparse
import dataclasses
import re
import shlex
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from types import MappingProxyType
from typing import Any, NoReturn

from yolo_lite.cli import values
from yolo_lite.cli.examples import EXAMPLES
from yolo_lite.cli.screen import note
from yolo_lite.errors import InputError
from yolo_lite.shipped import DEFAULT_WEIGHTS

SHIPPED = f"the shipped {DEFAULT_WEIGHTS}"
_BY_CONFIG = "the configuration's"


@dataclass(frozen=True)
class Flag:
    """One flag.

    Attributes:
        spelling: the flag with its dashes.
        help: text that begins with a noun or a verb, without the default; empty: the help of its setting.
        usual: the default in words, if the parser's own default does not tell it.
        key: key of the setting that it sets.
        options: further arguments for argparse.
    """

    spelling: str
    help: str
    usual: str
    key: str
    options: Mapping[str, Any] = field(hash=False)


def _flag(spelling: str, help: str = "", *, usual: str = "", key: str = "", **options: Any) -> Flag:
    return Flag(spelling, help, usual=usual, key=key, options=MappingProxyType(options))


def _switch(spelling: str, help: str = "", *, key: str = "", **options: Any) -> Flag:
    """Return a flag without a value; a setting keeps its value if the flag is absent."""
    return _flag(spelling, help, key=key, action="store_true", default=None if key else False, **options)


_FILE: dict[str, Any] = {"type": values.path, "metavar": "FILE"}
_FOLDER: dict[str, Any] = {"type": values.path, "metavar": "FOLDER"}
_COUNT: dict[str, Any] = {"type": values.positive, "metavar": "N"}

# By the name that commands use: the spelling, or another name if one spelling takes different kinds of values.
FLAGS: Mapping[str, Flag] = {
    # what to work on
    "data": _flag(
        "--data",
        "data set: a folder (COCO JSON, YOLO txt or PASCAL VOC XML, recognised by its content), a YAML file or a COCO "
        "JSON file",
        type=values.text,
    ),
    "config": _flag(
        "--config",
        "network to build: the name of a shipped configuration (nano, shuffle) or a YAML file",
        type=values.text,
    ),
    "weights": _flag("--weights", "checkpoint: a file or the name of a shipped one", usual=SHIPPED, type=values.text),
    "teacher": _flag(
        "--teacher",
        usual="none",
        key="train.teacher",
        type=values.text,
    ),
    "split": _flag("--split", "split to use: train, val or test"),
    "splits": _flag("--split", "splits to use: train, val, test", usual="all", nargs="+", default=[]),
    "shares": _flag(
        "--shares", "percentages of train/val/test if a folder of classes has no splits", key="data.shares"
    ),
    "classes": _flag(
        "--classes", "names of the classes to use: person,car", usual="all", key="data.classes", type=values.names
    ),
    "num-classes": _flag("--num-classes", "number of classes", **_COUNT),
    "class": _flag(
        "--class", "name of one class", usual="the one with the highest score", dest="name", type=values.text
    ),
    "fraction": _flag("--fraction", key="data.fraction", type=float),
    "per-class": _flag(
        "--per-class", "largest number of training images of each class", usual="all", key="data.per_class", **_COUNT
    ),
    "tta": _switch("--tta", "look at each image mirrored as well: a little more accurate, about twice as slow"),
    "tiles": _flag(
        "--tiles",
        "rows and columns of tiles to look at as well, such as 2x2, for small objects",
        usual="none",
        type=values.text,
    ),
    "tile": _flag(
        "--tile",
        "side of square tiles to look at as well, in pixels of the image, such as 640",
        usual="none",
        type=values.positive,
    ),
    "overlap": _flag(
        "--overlap", "overlap of neighbouring tiles, as a fraction of their side", usual="0.2", type=float
    ),
    "difficult": _switch("--difficult", key="data.difficult"),
    "unlabelled": _flag(
        "--unlabelled",
        usual="none",
        key="data.unlabelled",
        type=values.text,
        metavar="FOLDER",
    ),
    "source": _flag("--source", "images, folders or patterns such as shots/*.jpg", nargs="+", type=values.text),
    "manifest": _flag(
        "--manifest",
        "images of a batch job, of any number: a list (.txt, one path per line), a folder, or tar files such as "
        "shard-{0000..0009}.tar",
        usual="none",
        type=values.text,
    ),
    "shard-size": _flag(
        "--shard-size", "number of images in a file of results", usual="1000; each tar is one shard", **_COUNT
    ),
    "every-frame": _switch("--every-frame", "process every frame of a live source, however far that falls behind"),
    "frames": _flag("--frames", "number of frames after which a stream ends", usual="no limit", **_COUNT),
    "stream-time": _flag(
        "--time",
        "time after which a stream ends: 30s, 20m, 1h30m or a number of minutes",
        usual="no limit",
        type=values.text,
        metavar="TIME",
    ),
    "image": _flag("--image", "image to look at", usual="a sample", type=values.path),
    "images": _flag("--images", "number of images", **_COUNT),
    "detections": _flag("--detections", "COCO result file (.json) to score instead of weights", **_FILE),
    "box": _flag("--box", "corners x1,y1,x2,y2 in pixels of the image", type=values.text),
    "layer": _flag("--layer", "path of the layer, as inspect model prints it"),
    # how a network is used
    "device": _flag(
        "--device", "auto (cuda, then mps, then cpu), cpu, cuda, cuda:1 or mps", usual="auto", default="auto"
    ),
    "image-size": _flag(
        "--image-size",
        "side, or height and width, of the network's input",
        usual="from the weights or the configuration",
        key="input.image_size",
        nargs="+",
        **_COUNT,
    ),
    "batch-size": _flag(
        "--batch-size",
        "number of images in a batch",
        usual=_BY_CONFIG,
        key="train.batch_size",
        type=values.positive,
    ),
    "score-threshold": _flag(
        "--score-threshold",
        "score above which a detection counts",
        usual="the weights' own, which gave the best F1 on validation",
        key="postprocess.score_threshold",
        type=values.unit,
    ),
    "iou-threshold": _flag(
        "--iou-threshold", usual="the weights' own, mostly 0.6", key="postprocess.iou_threshold", type=values.unit
    ),
    "max-detections": _flag(
        "--max-detections",
        usual="the weights' own, mostly 300",
        key="postprocess.max_detections",
        type=values.positive,
    ),
    # how objects are followed
    "track": _switch(
        "--track", "number the objects of a video or live source, and keep each number from frame to frame"
    ),
    "count-line": _flag(
        "--count-line",
        "ends x1,y1,x2,y2 of a line; counts tracked objects that cross it, by direction; pixels of the video, or "
        "fractions if all are from 0 to 1; may be repeated",
        usual="none",
        action="append",
        default=[],
        type=values.line,
        metavar="LINE",
    ),
    "zone": _flag(
        "--zone",
        "corners x1,y1,x2,y2,x3,y3... of an area; counts tracked objects inside it; as for --count-line",
        usual="none",
        action="append",
        default=[],
        type=values.zone,
        metavar="CORNERS",
    ),
    # how a network is trained
    "epochs": _flag(
        "--epochs",
        "number of passes over the training images",
        usual=_BY_CONFIG,
        key="train.epochs",
        type=values.positive,
    ),
    "time": _flag(
        "--time",
        "time limit: 20m, 1h30m, 90s or a number of minutes; sets the number of epochs",
        usual="no limit",
        key="train.minutes",
        type=values.text,
        metavar="TIME",
    ),
    "seeds": _flag("--seeds", "number of runs on each data set, with the seeds 0, 1 ...", default=1, **_COUNT),
    "seed": _flag("--seed", "seed of weights, order and augmentation", usual="0", key="train.seed", type=values.seed),
    "accumulate": _flag(
        "--accumulate",
        key="train.accumulate",
        **_COUNT,
    ),
    "precision": _flag(
        "--precision",
        key="train.precision",
        choices=("auto", "fp32", "bf16"),
    ),
    "preflight": _flag(
        "--preflight",
        "check first that the network can overfit eight images, in at most 60 steps",
        usual="yes",
        key="train.preflight",
        action=argparse.BooleanOptionalAction,
    ),
    "deterministic": _switch(
        "--deterministic",
        key="train.deterministic",
    ),
    "tensorboard": _switch(
        "--tensorboard",
        key="train.tensorboard",
    ),
    "freeze": _flag(
        "--freeze",
        "part of the network whose weights stay fixed",
        usual="none",
        key="train.freeze",
        choices=("none", "backbone"),
    ),
    "freeze-layers": _switch("--freeze", key="classifier.freeze", dest="freeze_layers"),
    "cache": _flag(
        "--cache",
        key="train.cache",
        choices=("auto", "ram", "none"),
    ),
    "workers": _flag(
        "--workers",
        usual=_BY_CONFIG,
        key="train.workers",
        type=values.workers,
        metavar="N",
    ),
    "set": _flag(
        "--set",
        "any setting, such as train.lr=0.002; may be repeated",
        action="append",
        default=[],
        metavar="KEY=VALUE",
    ),
    "resume": _switch(
        "--resume",
        "continue the run in --out, or the newest run; add --data only if the images have moved",
    ),
    "task": _flag("--task", "what to train", choices=("detect", "classify")),
    "trials": _flag("--trials", "total number of finished trials", default=20, type=values.positive),
    "backends": _flag("--backends", "backends to compare: torch,onnx,openvino", usual="none", type=values.names),
    "threads": _flag("--threads", "number of CPU threads", default=1, **_COUNT),
    "worker": _flag(
        "--worker",
        "which of several workers this is, such as 3/8, numbered from 0",
        usual="as torchrun, Slurm or Kubernetes say, or 0/1",
        type=values.text,
        metavar="N/COUNT",
    ),
    "steps": _flag("--steps", "number of steps to measure", default=30, **_COUNT),
    "clients": _flag("--clients", "number of clients that send images at once", default=8, **_COUNT),
    "requests": _flag("--requests", "number of requests of each client", default=50, **_COUNT),
    "memory-requests": _flag(
        "--memory-requests",
        "number of requests, such as 2000, that are sent first to see how memory grows",
        usual="0, not measured",
        default=0,
        type=values.positive,
        metavar="N",
    ),
    # what comes out
    "out": _flag("--out", "folder of the results", type=values.text),
    "out-file": _flag("--out", "file to write", dest="out_file", **_FILE),
    "save-json": _flag("--save-json", "file for the detections as COCO result rows", usual="none", **_FILE),
    "save-txt": _flag(
        "--save-txt",
        "new folder for a label file of each image, in the layout of YOLO",
        usual="none",
        **_FOLDER,
    ),
    "txt-scores": _switch("--txt-scores", "append the score to each line of the label files"),
    "save-csv": _flag("--save-csv", "file for a table with a row for each object", usual="none", **_FILE),
    "save-crops": _flag("--save-crops", "new folder for an image of each object", usual="none", **_FOLDER),
    "no-images": _switch("--no-images", "write no annotated images and no annotated video"),
    "quiet": _switch("--quiet", "print only errors, lost live sources and the summary"),
    "font": _flag(
        "--font",
        "font file for class names",
        usual="DejaVu Sans, and system fonts for letters that it lacks",
        type=values.font_file,
        metavar="FILE",
    ),
    "show": _switch("--show", "also show the results in a window (needs opencv-python)"),
    "video-format": _flag(
        "--video-format",
        "format of an annotated video; webm (VP9) plays in browsers",
        choices=("mp4", "webm"),
        usual="mp4",
    ),
    "resamples": _flag(
        "--resamples",
        key="evaluate.resamples",
        **_COUNT,
    ),
    "report": _flag(
        "--report",
        "folder for a report: report.html, a page that explains the numbers, and report.json",
        **_FOLDER,
    ),
    "against": _flag(
        "--against",
        "second checkpoint, exported file or COCO result file (.json) to compare with on the same images",
        type=values.text,
        metavar="FILE",
    ),
    "store-threshold": _switch(
        "--store-threshold", "store the best score threshold into the checkpoint, as the default of detect"
    ),
    "corrupt": _switch(
        "--corrupt",
        "also score 12 kinds of corruption, each in 3 strengths, and 4 styles of painting: 41 times the work, on at most "
        "500 images",
    ),
    "copy": _switch("--copy", "copy the images; by default they are hard links if the disk allows it"),
    "markdown": _switch("--markdown", "print all settings as a Markdown page (docs/settings.md)"),
    "to": _flag("--to", "layout to write", choices=("coco", "yolo", "voc")),
    "messages": _flag(
        "--to",
        "message target, one message for each frame: jsonl:-, jsonl:FILE, kafka://host:port/topic or "
        "mqtt://host:port/topic; may be repeated; files are then read as a stream, without annotated copies",
        usual="none",
        action="append",
        default=[],
        dest="targets",
        metavar="TARGET",
        type=values.text,
    ),
    "save-video": _switch(
        "--save-video", "also write an annotated video of each source of a stream, which grows until the stream ends"
    ),
    "fix": _flag("--fix", "folder for repaired COCO files; nothing is replaced", usual="none", **_FOLDER),
    "all": _switch("--all", "print every fault, not only the first five of each kind"),
    "augment": _switch("--augment", "show the images as the first epoch of a training with these flags sees them"),
    # what is served over HTTP
    "served": _flag(
        "--weights",
        "checkpoints or exported files to serve, or names of shipped ones; NAME=FILE gives one a name",
        usual=SHIPPED,
        dest="served",
        nargs="+",
        type=values.text,
        metavar="FILE",
    ),
    "host": _flag(
        "--host",
        "address to listen on; 0.0.0.0 lets other machines in",
        default="127.0.0.1",
        type=values.text,
        metavar="ADDRESS",
    ),
    "port": _flag("--port", "port to listen on; 0 for any free one", default=8000, type=values.port, metavar="PORT"),
    "token": _flag(
        "--token",
        "bearer token that requests must have",
        usual="the environment variable YOLO_LITE_TOKEN, or none",
        type=values.text,
        metavar="TOKEN",
    ),
    "allow-host": _flag(
        "--allow-host",
        "names by which the server may be called, such as that of a proxy in front of it",
        usual="this machine's own names; any if --host lets other machines in",
        nargs="+",
        default=[],
        type=values.text,
        metavar="NAME",
    ),
    "any-batch": _switch(
        "--any-batch",
        "form batches even if that changes the last bits of results; faster for some networks, above all on a GPU",
    ),
    "max-bytes": _flag("--max-bytes", "largest number of bytes in a request", default=20_000_000, **_COUNT),
    "max-pixels": _flag("--max-pixels", "largest number of pixels in an image", default=50_000_000, **_COUNT),
    "seconds": _flag(
        "--seconds",
        "time limit in seconds for a request to arrive, and for its answer",
        default=30,
        type=values.seconds,
        metavar="SECONDS",
    ),
    "queue": _flag("--queue", "largest number of requests in progress or waiting", default=32, **_COUNT),
    # weights of other projects
    "param": _flag("--param", ".param file of ncnn, with the layers of the network", **_FILE),
    "bin": _flag("--bin", ".bin file of ncnn, with the weights", **_FILE),
    "format": _flag(
        "--format",
        "onnx (ONNX Runtime), openvino, or torch-export (torch alone)",
        choices=("onnx", "openvino", "torch-export"),
        default="onnx",
    ),
    "engine": _flag(
        "--engine",
        "what runs a batch job: this process, or ray (actors on a cluster or on this machine; needs ray)",
        usual="process",
        choices=("process", "ray"),
    ),
    "actors": _flag("--actors", "number of actors of --engine ray", usual="all CPU cores of the cluster", **_COUNT),
    "rows": _flag(
        "--format",
        "format of a batch job's rows: jsonl, or parquet (needs pyarrow)",
        usual="jsonl",
        dest="rows",
        choices=("jsonl", "parquet"),
    ),
    "fp16": _switch(
        "--fp16", "store weights in float16, half the size; needs --data, on which AP must not drop by more than 0.003"
    ),
    "batch": _flag(
        "--batch", "number of images at once: dynamic (any) or a number", default="dynamic", type=values.batch
    ),
    "raw": _switch("--raw", "leave out NMS: boxes and scores of every point, for accelerators without NMS"),
    "pth": _flag("--weights", ".pth file of YOLOX", usual="none", dest="pth", **_FILE),
    "legacy": _switch("--legacy", "for weights of YOLOX 0.1.0, whose input is normalised RGB instead of plain BGR"),
    "cfg": _flag("--cfg", ".cfg file of Darknet, with the layers of the network", **_FILE),
    "darknet-weights": _flag("--weights", ".weights file of Darknet", dest="darknet_weights", **_FILE),
    "names": _flag("--names", "file of class names, one per line", usual="numbers as names", **_FILE),
    "resize": _flag(
        "--resize", "how images are brought to the input size", choices=("stretch", "letterbox"), default="stretch"
    ),
    "until": _flag(
        "--until",
        "last layer to take, counted from 0; makes a backbone for train --config nano --weights OUT",
        usual="all layers",
        type=int,
        metavar="LAYER",
    ),
}


_GROUPS: Mapping[str, str] = {  # heading in the help: the flags below it
    "data": "data split splits shares classes num-classes class fraction per-class difficult unlabelled source manifest shard-size image "
    "every-frame frames stream-time images detections box cache workers",
    "network": "config weights against teacher layer image-size batch-size freeze freeze-layers format fp16 batch raw pth param bin legacy "
    "cfg darknet-weights names resize until",
    "detections": "score-threshold iou-threshold max-detections tta tiles tile overlap resamples corrupt store-threshold "
    "track count-line zone",
    "training": "epochs time seed seeds accumulate precision preflight deterministic set task trials augment",
    "machine": "device threads worker engine actors steps backends clients requests memory-requests",
    "server": "served host port token allow-host any-batch max-bytes max-pixels seconds queue",
    "output": "out rows report out-file resume save-json save-txt txt-scores save-csv save-crops no-images quiet "
    "font show video-format tensorboard copy markdown to messages save-video fix all",
}
_GROUP_OF = {name: title for title, names in _GROUPS.items() for name in names.split()}
_METAVARS: Mapping[str, str] = {
    "data": "DATA",
    "config": "NAME",
    "weights": "FILE",
    "teacher": "FILE",
    "split": "SPLIT",
    "splits": "SPLIT",
    "shares": "SHARES",
    "classes": "NAMES",
    "class": "NAME",
    "fraction": "PART",
    "source": "PATH",
    "manifest": "PATH",
    "image": "FILE",
    "box": "BOX",
    "layer": "LAYER",
    "device": "DEVICE",
    "batch-size": "N",
    "score-threshold": "SCORE",
    "iou-threshold": "IOU",
    "max-detections": "N",
    "tiles": "GRID",
    "tile": "SIDE",
    "overlap": "PART",
    "epochs": "N",
    "time": "TIME",
    "seed": "N",
    "trials": "N",
    "out": "FOLDER",
}


_MAY_BE_NEGATIVE = ("--count-line", "--zone")


def joined(words: Sequence[str]) -> list[str]:
    """Return words with --count-line and --zone joined to a value like -5,0,9,9, which argparse takes for a flag."""
    result: list[str] = []
    for word in words:
        if result and result[-1] in _MAY_BE_NEGATIVE and re.match(r"-[\d.]", word):
            result[-1] += f"={word}"
        else:
            result.append(word)
    return result


def add_flags(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """Add flags of the table, unchanged."""
    for name in names:
        add_flag(parser, name)


def add_flag(
    parser: argparse.ArgumentParser,
    name: str,
    *,
    help: str = "",
    usual: str | None = None,
    key: str | None = None,
    **options: Any,
) -> None:
    """Add one flag of the table, with the changes of this command.

    Args:
        parser: parser of the command.
        name: name of the flag in the table.
        help, usual, key: replace those of the table.
        options: arguments for argparse that replace those of the table.
    """
    flag = FLAGS[name]
    merged: dict[str, Any] = {**flag.options, **options}
    key = flag.key if key is None else key
    setting = _setting(key) if key else None
    words = help or flag.help or str(setting.metadata["help"] if setting else "").replace("%", "%%")
    usual = flag.usual if usual is None and "default" not in options else usual
    default = merged.get("default")
    if default is None and setting and not usual and merged.get("action") != "store_true":
        default = setting.default
    if not usual and default is not None and default is not False and default != []:
        usual = str(default)
    if usual and not merged.get("required"):
        words += f" (default: {usual})"
    if name in _METAVARS:
        merged["metavar"] = _METAVARS[name]
    action = _group(parser, _GROUP_OF[name]).add_argument(flag.spelling, help=words, **merged)
    if key:
        parser.set_defaults(keys={**(parser.get_default("keys") or {}), action.dest: key})


def _group(parser: argparse.ArgumentParser, title: str) -> argparse._ArgumentGroup:
    """Return the group of a parser with this heading; create it if there is none."""
    made = (group for group in parser._action_groups if group.title == title)
    return next(made, None) or parser.add_argument_group(title)


def _setting(key: str) -> dataclasses.Field[Any]:
    """Return the field of the configuration that a key names."""
    from yolo_lite.config.schema import Config

    section, _, name = key.rpartition(".")
    return next(item for item in dataclasses.fields(getattr(Config(), section)) if item.name == name)


def settings_of(args: argparse.Namespace) -> dict[str, object]:
    """Return the settings, by key, of --set and of all flags that set one; a flag wins over --set.

    Raises:
        InputError: if --set is not KEY=VALUE, or the value of a flag is out of its range.
    """
    from yolo_lite.config.read import parse_setting

    settings = dict(parse_setting(text) for text in getattr(args, "set", []))
    for name, key in getattr(args, "keys", {}).items():
        value = getattr(args, name)
        if value is not None:
            _check_range(f"--{name.replace('_', '-')}", key, value)
            settings[key] = value
    return settings


def _check_range(flag: str, key: str, value: object) -> None:
    """Raise InputError, in the name of the flag and not of --set, if a setting does not take a value."""
    from yolo_lite.config.resolve import override_config
    from yolo_lite.config.schema import Config

    try:
        override_config(Config(), {key: value})
    except InputError as error:
        before, is_blamed, words = str(error).partition(f"--set: {key!r} ")
        if is_blamed and not before:
            raise InputError(f"{flag} {words}") from error


@dataclass(frozen=True)
class Former:
    """A spelling of earlier versions, which still works and prints a note.

    Attributes:
        commands: the commands that had it.
        old: the former flag; FILE stands for a word without a flag.
        new: the flag to use instead.
        mark: text that only values of the former flag contain, if a present flag has the same spelling.
    """

    commands: tuple[str, ...]
    old: str
    new: str
    mark: str = ""


FORMER = (
    Former(("classify train", "inspect model", "tune"), "--model", "--config"),
    Former(("classify eval",), "--on", "--split"),
    Former(("classify train", "classify eval"), "--split", "--shares", mark="/"),
    Former(("bench model", "bench ops", "inspect model"), "--classes", "--num-classes"),
    Former(("card",), "FILE", "--weights"),
    Former(("eval",), "--bootstrap", "--resamples"),
)


def modern(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with former spellings replaced, and print a note for each."""
    words: list[str] = []
    command = " ".join(takewhile(lambda word: not word.startswith("-"), arguments[:2]))
    for position, word in enumerate(arguments):
        old, equals, value = word.partition("=")
        if _is_bare(arguments, position):
            old, equals, value = "FILE", "", word
        elif not equals:
            value = " ".join(arguments[position + 1 : position + 2])
        former = _former(command, old, value=value)
        if former is None:
            words.append(word)
            continue
        note(f"{old} is now {former.new}; please write {former.new} {shlex.quote(value)}")
        words += [former.new, value] if equals or old == "FILE" else [former.new]
    return words


def _former(command: str, old: str, *, value: str) -> Former | None:
    for former in FORMER:
        known = any(f"{command} ".startswith(f"{name} ") for name in former.commands)
        if known and old == former.old and former.mark in value:
            return former
    return None


def _is_bare(arguments: Sequence[str], position: int) -> bool:
    """Return whether a word is neither a flag nor the value of one."""
    before = arguments[position - 1] if position else "--"
    return not arguments[position].startswith("-") and not (before.startswith("--") and "=" not in before)


_EXAMPLES_TITLE = "Examples:"


class _Help(argparse.HelpFormatter):
    """Wrap all texts except the examples, which keep their lines; words such as opencv-python stay whole."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith(_EXAMPLES_TITLE):
            return text
        return "\n".join(f"{indent}{line}" for line in self._split_lines(text, width - len(indent)))

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


class Parser(argparse.ArgumentParser):
    """A parser that reports errors in one line, and ends its help with examples."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"formatter_class": _Help, **options})
        if self.prog in EXAMPLES:
            self.epilog = "\n  ".join([_EXAMPLES_TITLE, *EXAMPLES[self.prog]])

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Return the parsed arguments; a flag that a command does not know is reported with the help of that command."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            words = [self.prog, *(getattr(parsed, name, None) for name in ("command", "what"))]
            self._refuse(f"unrecognized arguments: {' '.join(unknown)}", " ".join(filter(None, words)))
        return parsed

    def error(self, message: str) -> NoReturn:
        """Exit with the message and the command that prints the help."""
        self._refuse(message, self.prog)

    def _refuse(self, message: str, command: str) -> NoReturn:
        self.exit(2, f"error: {' '.join(message.split())}; {command} --help lists the options\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        stream = file or sys.stderr
        for line in message.splitlines(keepends=True):  # `Screen` expects single lines
            if stream:
                stream.write(line)
