"""Settings: declared in settings, checked by field, read from files by read, options by args."""

from asr.config.args import (
    add_machine_options,
    add_settings,
    add_threads,
    from_args,
    make_parser,
    real,
    settings_of,
    whole,
)
from asr.config.field import require
from asr.config.read import from_dict, load_yaml, to_dict
from asr.config.settings import (
    AttentionConfig,
    AugmentConfig,
    BatchConfig,
    DecodeConfig,
    DecoderConfig,
    EncoderConfig,
    FeatureConfig,
    LMConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    SegmentationConfig,
    TrainConfig,
)

__all__ = [
    "AttentionConfig",
    "AugmentConfig",
    "BatchConfig",
    "DecodeConfig",
    "DecoderConfig",
    "EncoderConfig",
    "FeatureConfig",
    "LMConfig",
    "LossConfig",
    "ModelConfig",
    "OptimConfig",
    "SegmentationConfig",
    "TrainConfig",
    "add_machine_options",
    "add_settings",
    "add_threads",
    "from_args",
    "from_dict",
    "load_yaml",
    "make_parser",
    "real",
    "require",
    "settings_of",
    "to_dict",
    "whole",
]
