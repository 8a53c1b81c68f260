"""Build yolo_lite_runtime: a wheel that detects and classifies with exported files, without torch and OpenCV.

python tools/build_runtime.py
python tools/build_runtime.py --out dist

It takes the modules that these tasks need from the sources, the default network as an ONNX file, and a sample image.
"""

from __future__ import annotations

import argparse
import ast
import base64
import configparser
import functools
import hashlib
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from yolo_lite import export
from yolo_lite.predict.files import sample_image
from yolo_lite.shipped import DEFAULT_WEIGHTS
from yolo_lite.version import VERSION

TOP = Path(__file__).resolve().parents[1]
COMMANDS = ("detect", "classify", "serve")
ROOTS = ("yolo_lite.__main__", "yolo_lite.runtime", *(f"yolo_lite.cli.commands.{name}" for name in COMMANDS))
SERVER = {
    "starlette",
    "uvicorn",
    "h11",
    "python_multipart",
}  # the extra `serve`, whose modules are imported to serve only
LIGHT = {"numpy", "PIL", *SERVER}  # all that may be imported at the top of a module
NAME = f"yolo_lite_runtime-{VERSION}"
ENGINE = "onnxruntime>=1.18"


@functools.cache
def sources() -> dict[str, Path]:
    """Return every module of the package by its name."""
    files = sorted((TOP / "yolo_lite").rglob("*.py"))
    return {".".join(file.relative_to(TOP).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


@functools.cache
def imports(module: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return what a module imports at its top, and what inside its functions; type checkers' imports are left out."""
    at_top: set[str] = set()
    inside: set[str] = set()
    waiting: list[tuple[ast.AST, bool]] = [(ast.parse(sources()[module].read_text(encoding="utf-8")), False)]
    while waiting:
        node, is_inside = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            (inside if is_inside else at_top).update(_names(node))
        is_inside = is_inside or isinstance(node, ast.FunctionDef)
        waiting += [(child, is_inside) for child in ast.iter_child_nodes(node)]
    return frozenset(at_top), frozenset(inside)


def _names(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    for alias in node.names:
        name = f"{node.module}.{alias.name}"
        yield name if name in sources() else str(node.module)


def is_light(module: str, above: frozenset[str] = frozenset()) -> bool:
    """Return whether importing a module needs nothing but LIGHT and Python's own modules."""
    if module not in sources():
        return module.partition(".")[0] in LIGHT | sys.stdlib_module_names
    return all(is_light(name, above | {module}) for name in imports(module)[0] if name not in above)


def runtime_modules() -> list[str]:
    """Return the modules that ROOTS need: all that they import, at the top or inside, as far as it is light."""
    waiting, chosen = list(ROOTS), set[str]()
    while waiting:
        module = waiting.pop()
        if module in chosen or module not in sources() or not is_light(module):
            continue
        chosen.add(module)
        waiting += [*imports(module)[0], *imports(module)[1], module.rpartition(".")[0]]
    return sorted(chosen)


def metadata() -> str:
    """Return the wheel's METADATA, from setup.cfg."""
    config = configparser.ConfigParser()
    config.read(TOP / "setup.cfg", encoding="utf-8")
    needed = _lines(config["options"]["install_requires"])
    (video,) = (line for line in needed if line.startswith("opencv"))
    required = [line for line in needed if line.startswith(("numpy", "Pillow"))]
    lines = [
        "Metadata-Version: 2.1",
        "Name: yolo-lite-runtime",
        f"Version: {VERSION}",
        "Summary: Detects and classifies with exported networks of yolo-lite, without torch.",
        f"License: {config['metadata']['license']}",
        f"Requires-Python: {config['options']['python_requires']}",
        *(f"Requires-Dist: {line}" for line in (*required, ENGINE)),
        "Provides-Extra: video",
        f"Requires-Dist: {video}; extra == 'video'",
        "Provides-Extra: serve",
        *(f"Requires-Dist: {line}; extra == 'serve'" for line in _lines(config["options.extras_require"]["serve"])),
        "",
        "`yolo-lite detect --source photo.jpg` finds objects with the network that this package carries. --weights takes a",
        "file that `yolo-lite export` of the full package wrote. Install one of the two packages, not both.",
        "",
    ]
    return "\n".join(lines)


def _lines(text: str) -> list[str]:
    """Return the lines of a list in setup.cfg, without its comments."""
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def contents(network: Path) -> dict[str, bytes]:
    """Return the files of the wheel by their places in it, all but the list of them."""
    info = f"{NAME}.dist-info"
    files = {str(sources()[name].relative_to(TOP).as_posix()): sources()[name] for name in runtime_modules()}
    for name in ("py.typed", "messages/frame.schema.json", "messages/image.schema.json", "serve/page.html"):
        files[f"yolo_lite/{name}"] = TOP / "yolo_lite" / name
    files[f"yolo_lite/weights/{DEFAULT_WEIGHTS}.onnx"] = network
    files[f"yolo_lite/weights/{sample_image().name}"] = sample_image()
    files |= {f"{info}/licenses/{name}": TOP / name for name in ("LICENSE", "NOTICE")}
    texts = {
        f"{info}/METADATA": metadata(),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: yolo_lite\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nyolo-lite = yolo_lite.cli:main\n",
    }
    return {name: path.read_bytes() for name, path in files.items()} | {k: v.encode() for k, v in texts.items()}


def write_wheel(files: dict[str, bytes], folder: Path) -> Path:
    """Write a wheel (PEP 427) with the files and the list of them; equal files give an equal wheel."""
    folder.mkdir(parents=True, exist_ok=True)
    path, record = folder / f"{NAME}-py3-none-any.whl", f"{NAME}.dist-info/RECORD"
    sums = {name: base64.urlsafe_b64encode(hashlib.sha256(content).digest()) for name, content in files.items()}
    rows = [f"{name},sha256={sums[name].decode().rstrip('=')},{len(files[name])}" for name in files]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in {**files, record: "\n".join([*rows, f"{record},,", ""]).encode()}.items():
            entry = zipfile.ZipInfo(name)  # of the year 1980
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            wheel.writestr(entry, content)
    return path


def main() -> None:
    """Export the default network, with the parity gate, and write the wheel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("dist"), help="folder of the wheel (default: dist)")
    out: Path = parser.parse_args().out
    with TemporaryDirectory() as folder:
        network = export(DEFAULT_WEIGHTS, Path(folder) / f"{DEFAULT_WEIGHTS}.onnx", say=print)
        path = write_wheel(contents(network), out)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, {len(runtime_modules())} modules")


if __name__ == "__main__":
    main()
