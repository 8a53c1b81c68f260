"""Check everything that a checkpoint file holds, before anything is built from it."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from yolo_lite.errors import InputError, is_memory_full, is_text, reason, short

FORMAT = "yolo_lite checkpoint"
VERSION = 1
MOST_CLASSES = 100_000
_PARTS = {"config": dict, "class_names": list, "category_ids": list, "weights": dict, "about": dict, "training": dict}
_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64)
_DEEPEST = 12
_MOST_ENTRIES = 5_000_000  # in all lists and mappings together
_MOST_TEXT = 2**20  # characters of one text, such as a .cfg file of Darknet
_MOST_TEXTS = 2**26  # characters of all texts together
_LONGEST_KEY = 1000
_NEVER = "is not a yolo_lite checkpoint, or is damaged (files that could run code are never loaded)"


def read_contents(path: Path) -> dict[str, Any]:
    """Read a checkpoint file, which may hold only tensors and plain values, and check the type of every part.

    Raises:
        InputError: if the file is missing, damaged or something else; it names the first entry that is wrong.

    Example:
        >>> from yolo_lite.shipped import find_weights
        >>> sorted(read_contents(find_weights("yolo_lite-pico-voc5")))
        ['about', 'category_ids', 'class_names', 'config', 'format', 'training', 'version', 'weights']
    """
    if not path.is_file():
        raise InputError(
            f"{path} does not exist" if not path.exists() else f"{path} is a folder, expected a weights file"
        )
    if path.suffix.lower() in (".onnx", ".xml", ".pt2"):
        raise InputError(f"{path} is an exported file, expected a checkpoint: name the .pt file that it was made from")
    _check_archive(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # on a foreign file torch may raise anything
        if is_memory_full(error):
            raise
        raise InputError(f"{path} {_NEVER}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} holds weights, but not of yolo_lite; train with yolo_lite or use a shipped file")
    version = content.get("version")
    if type(version) is not int or version < 1:
        raise InputError(f"{path} lacks a part of a yolo_lite checkpoint: version")
    if version > VERSION:
        raise InputError(f"{path} was written by a newer yolo_lite (format {short(version)}); this one reads {VERSION}")
    for name, kind in _PARTS.items():
        if not isinstance(content.get(name), kind):
            raise InputError(f"{path} lacks a part of a yolo_lite checkpoint: {name}")
    _check_values(content, path)
    _check_classes(content["class_names"], content["category_ids"], path)
    _check_tensors(content["weights"], "weights", path)
    _check_finite(content["weights"], path)
    _check_about(content["about"], path)
    return content


def check_fit(tensors: Mapping[str, Tensor], network: nn.Module, *, what: str, source: Path) -> None:
    """Raise InputError unless tensors match a network in their names, shapes and kind (float or integer).

    Args:
        tensors: by name.
        network: the network that they should fit.
        what: what the tensors are, for the message.
        source: their file, for the message.

    Example:
        >>> check_fit(nn.Linear(2, 3).state_dict(), nn.Linear(2, 4), what="weights", source=Path("a.pt"))
        ... # doctest: +ELLIPSIS
        Traceback (most recent call last):
        yolo_lite.errors.InputError: a.pt: the weights do not fit ...: 'weight' should be torch.float32 [4, 2], got ...
    """
    expected = network.state_dict()
    names = [name for name in (*expected, *tensors) if name not in tensors or name not in expected]
    names += [name for name, value in expected.items() if name in tensors and not _fits(tensors[name], value)]
    for name in names[:1]:
        wanted, got = (
            f"{held[name].dtype} {list(held[name].shape)}" if name in held else "nothing"
            for held in (expected, tensors)
        )
        raise InputError(
            f"{source}: the {what} do not fit the network that the file describes: {short(name)} should be {wanted}, "
            f"got {short(got)[1:-1]}"
        )


def _fits(value: Tensor, expected: Tensor) -> bool:
    return value.shape == expected.shape and value.is_floating_point() == expected.is_floating_point()


def _check_archive(path: Path) -> None:
    """Refuse a file that is not an uncompressed zip archive, as torch writes it, or that unpacks to more than its size."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except OSError as error:
        raise InputError(f"cannot read {path}: {reason(error)}") from error
    except Exception as error:  # on a foreign file zipfile may raise anything, too
        raise InputError(f"{path} {_NEVER}") from error
    if sum(max(0, one.file_size) for one in entries) > path.stat().st_size or any(one.compress_type for one in entries):
        raise InputError(f"{path} {_NEVER}")


def _check_values(content: Mapping[str, Any], path: Path) -> None:
    """Check every value: its type, how deep it lies, and that tensors are not larger than the file."""
    size = path.stat().st_size
    values = texts = 0
    for number, (where, value) in enumerate(_walk(content)):
        if number > _MOST_ENTRIES:
            raise InputError(f"{path} is damaged: it has more than {_MOST_ENTRIES:,} entries")
        if isinstance(value, Tensor):
            values += value.numel() * value.element_size() if _is_plain(value) else 0
            placed = where.startswith((".weights.", ".training."))
            if not (placed and _is_plain(value)) or values > 4 * size:  # the average is listed twice, but stored once
                raise _wrong(
                    path,
                    where,
                    expected="a dense tensor that the file holds" if placed else "a plain value",
                    value=value,
                )
        elif isinstance(value, str):
            texts += len(value)
            if len(value) > _MOST_TEXT or texts > _MOST_TEXTS or not is_text(value):
                raise _wrong(path, where, expected=f"a text of at most {_MOST_TEXT:,} characters", value=value)
        elif isinstance(value, int):
            if value.bit_length() > 64:
                raise _wrong(path, where, expected="a number of at most 64 bits", value=value)
        elif value is not None and type(value) is not float:
            raise _wrong(path, where, expected=f"a plain value, in at most {_DEEPEST} levels", value=value)


def _walk(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield every value with its place; mappings and lists only if they lie too deep or have odd keys."""
    waiting: list[tuple[str, Any, int]] = [("", content, 0)]
    while waiting:
        where, value, depth = waiting.pop()
        if isinstance(value, dict) and depth < _DEEPEST and all(map(_is_key, value)):
            for key in value:
                yield where, key
            waiting += [(f"{where}.{key}" if depth < 4 else where, one, depth + 1) for key, one in value.items()]
        elif isinstance(value, list | tuple) and depth < _DEEPEST:
            waiting += [(where, one, depth + 1) for one in value]
        else:
            yield where, value


def _is_key(key: Any) -> bool:
    return type(key) is int or (type(key) is str and len(key) <= _LONGEST_KEY)


def _is_plain(value: Tensor) -> bool:
    dense = type(value) in (Tensor, nn.Parameter) and value.layout == torch.strided and value.device.type == "cpu"
    if not dense or value.is_quantized or value.dtype not in _DTYPES:
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _check_classes(names: list[Any], ids: list[Any], path: Path) -> None:
    if not 0 < len(names) <= MOST_CLASSES:
        raise _wrong(path, ".class_names", expected=f"1 to {MOST_CLASSES:,} names", value=names)
    for name in names:
        if not isinstance(name, str) or len(name) > 1000:
            raise _wrong(path, ".class_names", expected="names of at most 1,000 characters", value=name)
    if len(set(names)) < len(names):
        raise _wrong(path, ".class_names", expected="different names", value=names)
    if len(ids) != len(names) or any(type(one) is not int or one.bit_length() > 63 for one in ids):
        raise _wrong(path, ".category_ids", expected=f"{len(names)} whole numbers, one for each class", value=ids)


def _check_tensors(tensors: Mapping[Any, Any], what: str, path: Path) -> None:
    for name, value in tensors.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise _wrong(path, f".{what}", expected="tensors by name", value={name: value})


def _check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise InputError(f"{path}: {name} holds numbers that are not finite; the training that made it went wrong")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)


_ABOUT: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "seed": ("a whole number from 0", lambda value: type(value) is int and 0 <= value < 2**63),
    "data": ("a path", lambda value: isinstance(value, str)),
    "split": ("a text", lambda value: isinstance(value, str)),
    "fingerprint": ("a text", lambda value: isinstance(value, str)),
    "val_fingerprint": ("a text", lambda value: isinstance(value, str)),
    "classes": ("a list of names", _texts),
    "epoch": ("a whole number", lambda value: type(value) is int),
    "metrics": ("numbers by name", lambda value: isinstance(value, dict) and all(map(_is_number, value.values()))),
    "versions": ("versions by name", lambda value: isinstance(value, dict)),
    "score_threshold": ("a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1),
}  # entries that the program uses; all others are only printed


def _check_about(about: Mapping[Any, Any], path: Path) -> None:
    for name, value in about.items():
        expected, fits = _ABOUT.get(name, ("", lambda value: True))
        if not isinstance(name, str) or not fits(value):
            raise _wrong(path, f".about.{name}", expected=expected or "named by text", value=value)


_STATE: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "model": ("tensors by name", lambda value: isinstance(value, dict)),
    "ema": ("tensors by name", lambda value: isinstance(value, dict)),
    "ema_start": ("tensors by name", lambda value: isinstance(value, dict)),
    "ema_updates": ("a whole number from 0", lambda value: type(value) is int and value >= 0),
    "optimizer": (
        "state and param_groups",
        lambda value: (
            isinstance(value, dict)
            and isinstance(value.get("state"), dict)
            and isinstance(value.get("param_groups"), list)
        ),
    ),
    "rows": (
        "numbers by name for each epoch",
        lambda value: (
            isinstance(value, list)
            and all(isinstance(row, dict) and all(_is_number(one) for one in row.values()) for row in value)
        ),
    ),
    "best": ("a number", _is_number),
}
_LATER: dict[str, tuple[str, Callable[[Any], bool]]] = {  # older files lack these
    "parts": ("a whole number from 1", lambda value: type(value) is int and 1 <= value <= 1_000_000),
    "best_epoch": ("a whole number from 0", lambda value: type(value) is int and 0 <= value <= 1_000_000),
    "ema_fresh": ("tensors by name", lambda value: isinstance(value, dict)),
}


def check_training(training: Mapping[str, Any], network: nn.Module, *, path: Path) -> None:
    """Check the state that a run resumes from: its settings and, after the first epoch, network and optimiser.

    Raises:
        InputError: if an entry is wrong; it names the first one.

    Example:
        >>> check_training({"epoch": -1}, nn.Linear(2, 3), path=Path("last.pt"))
        Traceback (most recent call last):
        yolo_lite.errors.InputError: last.pt is damaged: training.epoch must be a whole number from 0, got -1
    """
    if not isinstance(training.get("run", {}), dict):  # runs of version 0.1 have one
        raise _wrong(path, ".training.run", expected="the settings of a run", value=training.get("run"))
    epoch = training.get("epoch")
    if type(epoch) is not int or not 0 <= epoch <= 1_000_000:
        raise _wrong(path, ".training.epoch", expected="a whole number from 0", value=epoch)
    if not epoch:
        return  # the run stopped before its first epoch ended
    for name, (expected, fits) in {**_STATE, **_LATER}.items():
        if not fits(training.get(name)) and (name in training or name in _STATE):
            raise _wrong(path, f".training.{name}", expected=expected, value=training.get(name))
    if len(training["rows"]) != epoch:
        raise _wrong(path, ".training.rows", expected=f"{epoch} rows", value=training["rows"])
    for name in ("model", "ema", "ema_start"):
        _check_tensors(training[name], f"training.{name}", path)
        if training[name] or name != "ema_start":
            check_fit(training[name], network, what=f"weights of training.{name}", source=path)
    best = training.get("best_checkpoint") or {"weights": {}, "about": {}}
    if not isinstance(best, dict) or not all(isinstance(best.get(name), dict) for name in ("weights", "about")):
        raise _wrong(path, ".training.best_checkpoint", expected="weights and the facts about them", value=best)
    _check_about(best["about"], path)
    if best["weights"]:
        _check_tensors(best["weights"], "training.best_checkpoint.weights", path)
        check_fit(best["weights"], network, what="weights of training.best_checkpoint", source=path)
    weights = network.state_dict()
    for name, rows in training.get("ema_fresh", {}).items():
        if name not in weights or not _are_positions(rows, weights[name]):
            raise _wrong(
                path,
                f".training.ema_fresh.{short(name)[1:-1]}",
                expected="positions of rows of that weight",
                value=rows,
            )


def _are_positions(rows: Any, weight: Tensor) -> bool:
    if not isinstance(rows, Tensor) or rows.dtype != torch.int64 or rows.ndim != 1 or not weight.ndim:
        return False
    return not len(rows) or (int(rows.min()) >= 0 and int(rows.max()) < len(weight))


def check_optimizer(stored: Mapping[str, Any], optimizer: torch.optim.Optimizer, *, source: str) -> None:
    """Raise InputError unless a stored state has the groups, options and shapes of an optimiser; `source` names its file.

    Example:
        >>> weights = [nn.Parameter(torch.zeros(2))]
        >>> sgd, adam = torch.optim.SGD(weights), torch.optim.Adam(weights)
        >>> check_optimizer(sgd.state_dict(), adam, source="last.pt")
        Traceback (most recent call last):
        yolo_lite.errors.InputError: last.pt: the state of the optimiser does not fit the optimiser of this run; start a new run
    """
    own = optimizer.state_dict()
    fits = len(stored["param_groups"]) == len(own["param_groups"]) and all(
        isinstance(theirs, dict)
        and theirs.keys() == mine.keys()
        and isinstance(theirs["params"], list)
        and all(type(one) is int for one in theirs["params"])
        and theirs["params"] == mine["params"]
        and all(_alike(theirs[key], mine[key]) for key in mine if key != "params")
        for theirs, mine in zip(stored["param_groups"], own["param_groups"])
    )
    if fits:
        expected = [
            _state_of(group, type(optimizer), parameter)
            for group in optimizer.param_groups
            for parameter in group["params"]
        ]
        fits = all(
            type(number) is int
            and 0 <= number < len(expected)
            and isinstance(state, dict)
            and {name: _kind(value) for name, value in state.items()} == expected[number]
            for number, state in stored["state"].items()
        )
    if not fits:
        raise InputError(
            f"{source}: the state of the optimiser does not fit the optimiser of this run; start a new run"
        )


def _state_of(group: Mapping[str, Any], kind: type[torch.optim.Optimizer], parameter: Tensor) -> dict[str, Any]:
    """Return the types of the state that an optimiser keeps for a parameter, found by a step on a small one."""
    small = nn.Parameter(torch.zeros([1] * parameter.ndim))
    small.grad = torch.zeros_like(small)
    trial = kind([{**group, "params": [small]}], lr=0.0)  # type: ignore[call-arg]
    trial.step()
    large = tuple(parameter.shape)
    state = trial.state[small]
    return {
        name: (value.dtype, large if value.shape == small.shape and parameter.ndim else tuple(value.shape))
        if isinstance(value, Tensor)
        else type(value)
        for name, value in state.items()
    }


def _kind(value: Any) -> Any:
    return (value.dtype, tuple(value.shape)) if isinstance(value, Tensor) else type(value)


def _alike(theirs: Any, mine: Any) -> bool:
    """Return whether a stored option has the type of the optimiser's own, and is finite."""
    if isinstance(mine, list | tuple):
        return isinstance(theirs, list | tuple) and len(theirs) == len(mine) and all(map(_alike, theirs, mine))
    if _is_number(mine):
        return _is_number(theirs) and math.isfinite(theirs)
    return type(theirs) is type(mine) or (mine is None and isinstance(theirs, bool))


def _wrong(path: Path, where: str, *, expected: str, value: Any) -> InputError:
    return InputError(f"{path} is damaged: {short(where.lstrip('.'))[1:-1]} must be {expected}, got {short(value)}")
