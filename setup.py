"""The one part that setup.cfg cannot say: an optional C extension, without which the ops run in plain torch."""

import sys

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

STABLE = sys.version_info >= (3, 11)  # buffers joined the stable interface with Python 3.11


class BuildOps(build_ext):
    """Give each compiler its own name for "optimise, but fuse no product and sum"."""

    def build_extensions(self) -> None:
        msvc = self.compiler.compiler_type == "msvc"
        for extension in self.extensions:
            extension.extra_compile_args = (
                ["/O2", "/fp:precise"] if msvc else ["-O3", "-ffp-contract=off", "-fno-math-errno"]
            )
        super().build_extensions()


setup(
    ext_modules=[
        Extension(
            "yolo_lite.ops._native",
            ["yolo_lite/ops/kernels/native.c"],
            depends=["yolo_lite/ops/kernels/overlap.h"],
            define_macros=[("Py_LIMITED_API", "0x030B0000")] if STABLE else [],
            py_limited_api=STABLE,
            libraries=[] if sys.platform == "win32" else ["m"],
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildOps},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if STABLE else {},
)
