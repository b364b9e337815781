"""The mark of tests that need a C++ compiler; code that cannot be compiled fails them."""

import os

import pytest

from asr.model.fast import native

needs_compiler = pytest.mark.skipif(
    not native.compiler() or os.environ.get("ASR_NATIVE") == "0", reason="no C++ compiler"
)
