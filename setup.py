"""Build the optional C extension, which setup.cfg cannot describe; without it the ops run in plain torch."""

import sys

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError

STABLE = sys.version_info >= (3, 11)  # the stable ABI includes buffers since Python 3.11


class BuildOps(build_ext):
    """Pass each compiler its own flags for "optimise, but do not fuse products and sums"."""

    def build_extensions(self) -> None:
        msvc = self.compiler.compiler_type == "msvc"
        for extension in self.extensions:
            if msvc:
                extension.extra_compile_args = ["/O2", "/fp:precise"]
                continue
            openmp = ["-fopenmp"] if sys.platform == "linux" else []  # torch has loaded its library already
            extension.extra_compile_args = [
                "-O3",
                "-ffp-contract=off",
                "-fno-math-errno",
                "-fno-trapping-math",
                *openmp,
            ]
            extension.extra_link_args = list(openmp)
        super().build_extensions()

    def build_extension(self, extension: Extension) -> None:
        try:
            super().build_extension(extension)
        except BaseError:  # a compiler without OpenMP: same results, one thread
            if "-fopenmp" not in extension.extra_link_args:
                raise
            extension.extra_compile_args.remove("-fopenmp")
            extension.extra_link_args = []
            super().build_extension(extension)


setup(
    ext_modules=[
        Extension(
            "yolo_lite._native",
            [
                f"yolo_lite/ops/kernels/{name}.c"
                for name in ("native", "suppress", "suppress_wide", "norm_silu", "depthwise")
            ],
            depends=[
                *(f"yolo_lite/ops/kernels/{name}.h" for name in ("overlap", "clones", "suppress")),
                *(f"yolo_lite/ops/kernels/{name}.h" for name in ("norm_silu", "norm_silu_rows", "depthwise")),
                "yolo_lite/ops/kernels/suppress.c",
            ],
            define_macros=[("Py_LIMITED_API", "0x030B0000")] if STABLE else [],
            py_limited_api=STABLE,
            libraries=[] if sys.platform == "win32" else ["m"],
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildOps},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if STABLE else {},
)
