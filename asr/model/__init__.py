"""Features to log-probabilities: gru -> encoder -> (ctc) -> attention -> decoder -> las.

Read first: :mod:`asr.model.las`. Weights live in modules; what changes while decoding is
a value that is passed in and handed back.
"""
