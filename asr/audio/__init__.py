"""Audio files to features, as numpy arrays: header -> decode, media -> clip -> features -> cmvn."""
