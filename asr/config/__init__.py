"""settings.py, attention.py and layers.py declare the settings, field.py checks their values,
read.py reads them from files, and args.py makes options of them.
"""

from asr.config.attention import AttentionConfig as AttentionConfig
from asr.config.settings import AugmentConfig as AugmentConfig
from asr.config.settings import BatchConfig as BatchConfig
from asr.config.settings import DecodeConfig as DecodeConfig
from asr.config.settings import DecoderConfig as DecoderConfig
from asr.config.settings import EncoderConfig as EncoderConfig
from asr.config.settings import ExplainConfig as ExplainConfig
from asr.config.settings import FeatureConfig as FeatureConfig
from asr.config.settings import LMConfig as LMConfig
from asr.config.settings import LossConfig as LossConfig
from asr.config.settings import ModelConfig as ModelConfig
from asr.config.settings import OptimConfig as OptimConfig
from asr.config.settings import SegmentationConfig as SegmentationConfig
from asr.config.settings import ShardConfig as ShardConfig
from asr.config.settings import TrainConfig as TrainConfig
