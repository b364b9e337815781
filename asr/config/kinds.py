"""The kinds of a model's parts: their names in the settings and the paths of their classes.

Paths are for ``pkgutil.resolve_name``, so that reading a configuration imports no network.
"""

ATTENTIONS = {
    "location": "asr.model.attention.location.Location",
    "additive": "asr.model.attention.additive.Additive",
    "dot": "asr.model.attention.dot.Dot",
    "general": "asr.model.attention.general.General",
    "location_accumulated": "asr.model.attention.location_accumulated.LocationAccumulated",
    "coverage": "asr.model.attention.coverage.Coverage",
    "local_m": "asr.model.attention.local_m.LocalM",
    "local_p": "asr.model.attention.local_p.LocalP",
    "forward": "asr.model.attention.forward.Forward",
    "gmm": "asr.model.attention.gmm.GMM",
    "dynamic_convolution": "asr.model.attention.dynamic_convolution.DynamicConvolution",
    "hard_monotonic": "asr.model.attention.hard_monotonic.HardMonotonic",
    "stepwise_monotonic": "asr.model.attention.stepwise_monotonic.StepwiseMonotonic",
    "mocha": "asr.model.attention.mocha.MoChA",
    "milk": "asr.model.attention.milk.MILk",
}

CELLS = {
    "gru": "asr.model.cells.gru.GRU",
    "lstm": "asr.model.cells.lstm.LSTM",
}

LAYERS = {  # of the encoder, with the class of their settings
    "gru": ("asr.config.layers.Recurrent", "asr.model.encoder.gru.GRU"),
    "lstm": ("asr.config.layers.Recurrent", "asr.model.encoder.lstm.LSTM"),
    "conv2d": ("asr.config.layers.Convolutions", "asr.model.encoder.conv2d.Conv2d"),
    "attention": ("asr.config.layers.SelfAttention", "asr.model.encoder.attention.SelfAttention"),
}
