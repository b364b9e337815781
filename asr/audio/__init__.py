"""File to waveform to features: io -> augment -> fbank -> cmvn -> augment again (SpecAugment)."""
