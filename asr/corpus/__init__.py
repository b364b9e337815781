"""Kaldi data directories to batches: datadir, validate, edit, importing -> features -> batches."""
