"""Attention-based speech recognition that you train on your own recordings.

Read first: ``asr/model/las.py``, where an utterance becomes characters. The other
rooms follow the data: audio, text, corpus, model, search, train, score, recognize.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Clip", "Recognizer", "SegmentationConfig", "load", "score"]

if TYPE_CHECKING:
    from asr.audio.io import Clip
    from asr.config import SegmentationConfig
    from asr.recognize import Recognizer, load
    from asr.score import score


def __getattr__(name: str) -> Any:  # torch is imported when it is needed, not before
    if name in ("Recognizer", "load"):
        from asr import recognize

        return getattr(recognize, name)
    if name == "Clip":
        from asr.audio.io import Clip

        return Clip
    if name == "SegmentationConfig":
        from asr.config import SegmentationConfig

        return SegmentationConfig
    if name == "score":
        from asr.score import score

        return score
    raise AttributeError(f"module 'asr' has no attribute {name!r}")
