"""Tests of exports need the packages that write and run them."""

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
