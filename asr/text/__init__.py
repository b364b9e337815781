"""Transcripts and the ids of their characters: normalise, read, encode."""
