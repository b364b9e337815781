"""Attention-based speech recognition that you train on your own recordings.

Read ``asr/model/las.py`` first. ``asr/README.md`` explains the folders, and
``tests/test_house.py`` checks what each may import.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Clip", "Recognizer", "SegmentationConfig", "load", "score"]

if TYPE_CHECKING:
    from asr.audio.clip import Clip
    from asr.config import SegmentationConfig
    from asr.loading import load
    from asr.recognize.recognizer import Recognizer
    from asr.score import score

_MODULES = {
    "Clip": "asr.audio.clip",
    "Recognizer": "asr.recognize.recognizer",
    "SegmentationConfig": "asr.config",
    "load": "asr.loading",
    "score": "asr.score",
}


def __getattr__(name: str) -> Any:  # imports torch only if it is needed
    if name not in _MODULES:
        raise AttributeError(f"module 'asr' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
