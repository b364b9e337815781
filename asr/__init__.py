"""Attention-based speech recognition that you train on your own recordings.

Read first: ``asr/model/las.py``, where an utterance becomes characters. The order of the rooms
and what each may import stand in ``tests/test_house.py``.
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

_ROOMS = {
    "Clip": "asr.audio.clip",
    "Recognizer": "asr.recognize.recognizer",
    "SegmentationConfig": "asr.config",
    "load": "asr.loading",
    "score": "asr.score",
}


def __getattr__(name: str) -> Any:  # torch is imported when it is needed, not before
    if name not in _ROOMS:
        raise AttributeError(f"module 'asr' has no attribute {name!r}")
    return getattr(import_module(_ROOMS[name]), name)
