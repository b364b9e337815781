"""Transcripts: reading of all file formats, normalisation, and characters to token ids."""
