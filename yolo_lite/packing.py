"""Values as bytes, to send them to another process: a JSON document, followed by the numbers of arrays and tensors.

Nothing in the bytes can run code: classes are looked up among the data classes and named tuples that this package has
imported, and their fields are set.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

_PLAIN = frozenset({str, int, float, bool, type(None)})  # the same in JSON, NaN and infinity as Python writes them
_KIND = ""  # an object with this key stands for something that JSON does not have
_SIZE = 8  # bytes of a length
_PACKAGE = __name__.partition(".")[0]


def pack(value: object) -> bytes:
    """Turn a value into bytes.

    Args:
        value: a plain value, list, tuple, mapping, path, NumPy array or number, tensor, data class or named tuple of this
            package, or any nesting of these.

    Returns:
        The bytes. Tensors are stored without their device and gradient, NumPy's float64 numbers as Python's.

    Raises:
        TypeError: if there is anything else in the value.

    Example:
        >>> unpack(pack({1: (Path("a.jpg"), float("inf"))}))
        {1: (PosixPath('a.jpg'), inf)}
        >>> pack({"call": print})
        Traceback (most recent call last):
        TypeError: a builtin_function_or_method cannot be sent to another process
    """
    blocks: list[bytes] = []
    document = json.dumps(_to_json(value, blocks), separators=(",", ":")).encode("ascii")
    parts = (each for block in (document, *blocks) for each in (len(block).to_bytes(_SIZE, "little"), block))
    return b"".join(parts)


def unpack(content: bytes | memoryview) -> Any:
    """Return the value that `pack` turned into bytes; tensors are on the CPU.

    Raises:
        ValueError: if the bytes are not those of `pack`, or name a class that is not known here.

    Example:
        >>> import torch
        >>> unpack(pack([torch.ones(2), np.arange(3)]))
        [tensor([1., 1.]), array([0, 1, 2])]
    """
    view, blocks, place = memoryview(content), [], 0
    while place < len(view):
        size = int.from_bytes(view[place : place + _SIZE], "little")
        blocks.append(view[place + _SIZE : place + _SIZE + size])
        place += _SIZE + size
    if place != len(view) or not blocks:
        raise ValueError("expected the bytes of pack, got others")
    return json.loads(bytes(blocks[0]), object_hook=partial(_put_together, blocks=blocks[1:]))


def _to_json(value: Any, blocks: list[bytes]) -> Any:
    """Return what stands for a value in the document; the numbers of arrays are appended to the blocks."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is list:
        return [each if type(each) in _PLAIN else _to_json(each, blocks) for each in value]
    if kind is dict and _KIND not in value and all(type(key) is str for key in value):
        return {key: each if type(each) in _PLAIN else _to_json(each, blocks) for key, each in value.items()}
    if isinstance(value, float):  # of NumPy
        return float(value)
    name, content = _taken_apart(value, blocks)
    return {_KIND: name, "value": content}


def _taken_apart(value: Any, blocks: list[bytes]) -> tuple[str, Any]:
    """Return the kind of a value that JSON does not have, and what it consists of."""
    if isinstance(value, np.ndarray | np.generic) and not np.asarray(value).dtype.hasobject:
        array = np.asarray(value)
        blocks.append(array.tobytes())
        return "array" if isinstance(value, np.ndarray) else "number", [array.dtype.str, array.shape, len(blocks) - 1]
    if isinstance(value, Path):
        return "path", str(value)
    if isinstance(value, bytes):
        blocks.append(value)
        return "bytes", len(blocks) - 1
    if isinstance(value, dict):
        return "dict", [_to_json(list(item), blocks) for item in value.items()]
    if type(value) is tuple:
        return "tuple", _to_json(list(value), blocks)
    if _is_record(type(value)):
        fields = {name: _to_json(getattr(value, name), blocks) for name in _fields(type(value))}
        return f"{type(value).__module__}:{type(value).__qualname__}", fields
    if _is_tensor(value):
        order = sorted(range(value.ndim), key=value.stride, reverse=True)
        blocks.append(_bytes_of(value.permute(order)))
        return "tensor", [str(value.dtype).removeprefix("torch."), list(value.shape), order, len(blocks) - 1]
    raise TypeError(f"a {type(value).__name__} cannot be sent to another process")


def _put_together(value: dict[str, Any], blocks: list[memoryview]) -> Any:
    """Return what an object of the document stands for; everything in it has been put together before."""
    if _KIND not in value:
        return value
    kind, content = value[_KIND], value["value"]
    if kind in ("array", "number"):
        dtype, shape, block = content
        array = np.frombuffer(blocks[block], np.dtype(dtype)).reshape(shape).copy()
        return array if kind == "array" else array[()]
    if kind == "tensor":
        return _tensor(*content, blocks=blocks)
    if kind == "bytes":
        return bytes(blocks[content])
    if kind in _MAKERS:
        return _MAKERS[kind](content)
    return _record(kind, content)


_MAKERS: dict[str, Callable[[Any], Any]] = {"dict": dict, "path": Path, "tuple": tuple}


def _is_record(kind: type) -> bool:
    """Return whether values of a class consist of its fields, and the class belongs to this package."""
    is_own = kind.__module__.partition(".")[0] == _PACKAGE
    return is_own and (dataclasses.is_dataclass(kind) or (issubclass(kind, tuple) and hasattr(kind, "_fields")))


def _fields(kind: Any) -> tuple[str, ...]:
    return tuple(each.name for each in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else kind._fields


def _record(name: str, fields: dict[str, Any]) -> Any:
    """Return a data class or named tuple of this package with the given fields; no code of it runs."""
    module, _, path = name.partition(":")
    kind = vars(sys.modules.get(module, sys)).get(path)
    if not isinstance(kind, type) or not _is_record(kind) or set(_fields(kind)) != set(fields):
        raise ValueError(f"expected a data class or named tuple of {_PACKAGE}, got {name}")
    if issubclass(kind, tuple):
        return tuple.__new__(kind, [fields[each] for each in _fields(kind)])
    made: Any = object.__new__(kind)
    for each, value in fields.items():
        object.__setattr__(made, each, value)
    return made


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")  # without it there are no tensors
    return torch is not None and isinstance(value, torch.Tensor)


def _bytes_of(tensor: Tensor) -> bytes:
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _tensor(dtype: str, shape: list[int], order: list[int], block: int, *, blocks: list[memoryview]) -> Tensor:
    """Return a tensor whose axes lie in memory in the given order: optimisers rely on that of the weights."""
    import torch

    content, kind = bytearray(blocks[block]), getattr(torch, dtype)
    flat = torch.frombuffer(content, dtype=torch.uint8).view(kind) if content else torch.zeros(0, dtype=kind)
    places = [order.index(axis) for axis in range(len(shape))]
    return flat.reshape([shape[axis] for axis in order]).permute(places)
