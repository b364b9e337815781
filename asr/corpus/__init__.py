"""Kaldi data directories: read, check, fix, cut, join and import them."""
