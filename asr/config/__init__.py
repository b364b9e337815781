"""Settings: declared in settings and layers, checked by field, read by read, options by args."""

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
]
