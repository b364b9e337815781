"""Audio to transcripts: recognizer -> transcript -> writers, and the command."""

from asr.recognize.recognizer import Recognizer, load
from asr.recognize.transcript import Segment, Transcript

__all__ = ["Recognizer", "Segment", "Transcript", "load"]
