"""Trainings take a corpus of tones."""

from tones import tiny_training, tone_corpus

__all__ = ["tiny_training", "tone_corpus"]
