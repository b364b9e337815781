"""The kinds that a model is put together of: a name for the settings, and the class that it means.

Names alone are needed here, so that nothing of a network is imported to read a configuration.
"""

from importlib import import_module
from typing import Any

ATTENTIONS = {
    "location": "asr.model.attention.location.Location",
    "additive": "asr.model.attention.additive.Additive",
    "dot": "asr.model.attention.dot.Dot",
    "general": "asr.model.attention.general.General",
    "location_accumulated": "asr.model.attention.location_accumulated.LocationAccumulated",
    "coverage": "asr.model.attention.coverage.Coverage",
}

CELLS = {
    "gru": "asr.model.cells.gru.GRU",
    "lstm": "asr.model.cells.lstm.LSTM",
}

LAYERS = {  # of the encoder: a class for the settings, too
    "gru": ("asr.config.layers.Recurrent", "asr.model.encoder.gru.GRU"),
    "lstm": ("asr.config.layers.Recurrent", "asr.model.encoder.lstm.LSTM"),
    "conv2d": ("asr.config.layers.Convolutions", "asr.model.encoder.conv2d.Conv2d"),
    "attention": ("asr.config.layers.SelfAttention", "asr.model.encoder.attention.SelfAttention"),
}


def find_class(path: str) -> Any:
    """The class that a value of a registry names."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)
