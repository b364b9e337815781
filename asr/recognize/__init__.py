"""Audio to transcripts: recognizer -> interpret (timing, confidence) -> transcript -> writers."""

from typing import TYPE_CHECKING, Any

__all__ = ["Recognizer", "Segment", "Transcript", "Word", "load"]

if TYPE_CHECKING:
    from asr.recognize.recognizer import Recognizer, load
    from asr.recognize.transcript import Segment, Transcript, Word


def __getattr__(name: str) -> Any:  # torch is imported when it is needed: help answers at once
    if name in ("Recognizer", "load"):
        from asr.recognize import recognizer

        return getattr(recognizer, name)
    if name in ("Segment", "Transcript", "Word"):
        from asr.recognize import transcript

        return getattr(transcript, name)
    raise AttributeError(f"module 'asr.recognize' has no attribute {name!r}")
