"""Audio to transcripts."""
