"""The networks: from features to losses and log-probabilities.

Read :mod:`asr.model.las` first. Modules hold weights only; a decoding state is a value that is
passed in and returned.
"""
