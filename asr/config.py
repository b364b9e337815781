"""Every setting, declared once: type check, YAML key and ``--help`` come from here.

A configuration is a tree of frozen dataclasses. ``asr train --config conf/train.yaml
--optim.learning_rate 0.002`` reads the file, refuses keys that are not declared here,
and the command line wins. The resolved tree is stored beside the model as config.yaml.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from asr.errors import InputError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

Config = TypeVar("Config")


@dataclass(frozen=True)
class FeatureConfig:
    """Waveform to features; the defaults give Kaldi's 80-bin log-mel filterbanks."""

    kind: Literal["fbank", "mfcc"] = "fbank"
    """fbank: log-mel energies; mfcc: their cosine transform."""
    sample_rate: int = 16000
    """Rate in Hz that every input is resampled to."""
    mel_bins: int = 80
    """Triangular mel filters (F)."""
    ceps: int = 13
    """Cepstral coefficients kept, for mfcc only."""
    frame_length_ms: float = 25.0
    """Length of the analysis window."""
    frame_shift_ms: float = 10.0
    """Distance between two frames."""
    low_freq_hz: float = 20.0
    """Lower edge of the first mel filter."""
    high_freq_hz: float = 0.0
    """Upper edge of the last mel filter; 0 or less counts from half the sample rate."""
    dither: float = 0.0
    """Gaussian noise added to 16-bit samples; 0 keeps features reproducible."""
    level: bool = False
    """Bring every utterance to the same loudness, that of its loud frames: for recordings of
    very different levels."""
    delta_order: int = 0
    """0: static features; 1: with deltas; 2: with deltas and accelerations."""
    cmvn: Literal["global", "speaker", "none"] = "global"
    """Mean and variance normalisation: over the training set, per speaker, or none."""

    @property
    def dim(self) -> int:
        """Width of a feature frame (F)."""
        static = self.mel_bins if self.kind == "fbank" else self.ceps
        return static * (1 + self.delta_order)


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of the training audio; never applied to dev or test."""

    speeds: tuple[float, ...] = (0.9, 1.0, 1.1)
    """Speed factors, one drawn per utterance and epoch; (1.0,) turns it off."""
    vtln: float = 0.0
    """Warp the frequency axis by factors drawn from 1 - vtln to 1 + vtln, as if other people
    spoke (vocal tract length perturbation); 0 turns it off, 0.1 is usual."""
    tempo: float = 0.0
    """Stretch the frame shift by factors drawn from 1 - tempo to 1 + tempo: faster and slower
    speech of the same pitch."""
    volume_db: float = 6.0
    """Gain drawn evenly from -volume_db to +volume_db."""
    narrowband_prob: float = 0.0
    """Chance that an utterance loses what is above 4 kHz, as on the telephone."""
    noise_prob: float = 0.0
    """Chance that noise is added to an utterance."""
    noise_snr_db: tuple[float, float] = (5.0, 25.0)
    """Range of the signal-to-noise ratio."""
    noise_dir: str = ""
    """Folder of noise recordings; empty: white, pink and brown noise are made."""
    freq_masks: int = 2
    """SpecAugment: bands of mel bins set to the mean (arXiv:1904.08779)."""
    freq_width: int = 20
    """Largest width of a band in bins."""
    time_masks: int = 2
    """SpecAugment: stretches of frames set to the mean."""
    time_width: int = 40
    """Largest length of a stretch in frames."""
    time_ratio: float = 0.2
    """No stretch is longer than this share of the utterance."""


@dataclass(frozen=True)
class EncoderConfig:
    """Pyramidal bidirectional GRU (arXiv:1508.01211)."""

    frontend: Literal["none", "conv"] = "none"
    """conv: two 3x3 convolutions, each with stride 2 in time and frequency, come first."""
    frontend_channels: int = 32
    """Channels of the convolutional front-end."""
    units: int = 256
    """GRU units per direction; the encoder width is D = 2 * units."""
    pyramid: tuple[int, ...] = (2, 2, 1)
    """A layer for each entry; the layer sees this many neighbouring steps side by side."""
    dropout: float = 0.3
    """Dropout on the input of every layer but the first, and on the encoder's output."""

    @property
    def frames_per_step(self) -> int:
        """Feature frames that an encoder step stands for."""
        return math.prod(self.pyramid) * (4 if self.frontend == "conv" else 1)


@dataclass(frozen=True)
class AttentionConfig:
    """How the decoder looks at the encoder."""

    kind: Literal["location"] = "location"
    """location: content and the weights of the last character (arXiv:1506.07503)."""
    units: int = 128
    """Width of the energy layer (A)."""
    filters: int = 10
    """Location filters (C)."""
    filter_width: int = 31
    """Width of a location filter in encoder steps; odd."""


@dataclass(frozen=True)
class DecoderConfig:
    """GRU decoder that emits characters."""

    units: int = 256
    """Decoder state width (H)."""
    embedding: int = 128
    """Character embedding width."""
    dropout: float = 0.3
    """Dropout on the embedding and in the readout."""


@dataclass(frozen=True)
class ModelConfig:
    """Filterbanks in, characters out."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """The pyramid."""
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    """The link between the two."""
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    """The speller."""
    reset: Literal["after", "before"] = "after"
    """Reset gate of all GRUs: after the product as in cuDNN, or before it as in the paper."""


@dataclass(frozen=True)
class LossConfig:
    """What training minimises: (1 - ctc_weight) * attention + ctc_weight * CTC."""

    ctc_weight: float = 0.3
    """Weight of the CTC head on the encoder; 0 leaves the head untrained."""
    label_smoothing: float = 0.1
    """Share of the target spread over all characters (attention loss only)."""
    consistency: float = 0.0
    """Weight of what two differently masked copies of each utterance, side by side in the
    batch, disagree about in CTC (CR-CTC, arXiv:2410.05101); 0 makes one copy, 0.2 is usual."""
    guide: float = 0.0
    """Weight of a penalty on attention that is far from the diagonal (arXiv:1710.08969), which
    falls to nothing over the first guide_epochs: speech is read from left to right."""
    guide_epochs: int = 6
    """Epochs after which attention has no guide any more."""
    scheduled_sampling: float = 0.0
    """Chance that the decoder reads its own guess instead of the true character."""
    sampling_start_epoch: int = 0
    """Epoch from which scheduled sampling is on."""


@dataclass(frozen=True)
class OptimConfig:
    """Optimiser and learning-rate schedule."""

    kind: Literal["adamw", "adam", "adadelta"] = "adamw"
    """Update rule."""
    learning_rate: float = 1e-3
    """Peak learning rate (1.0 suits adadelta)."""
    weight_decay: float = 1e-2
    """Decoupled for adamw, added to the gradient otherwise."""
    warmup_steps: int = 200
    """Steps of linear rise from 0 to the peak."""
    decay: Literal["cosine", "none"] = "cosine"
    """Shape of the fall after decay_start."""
    decay_start: float = 0.3
    """Share of all steps after which the rate falls."""
    final_ratio: float = 0.01
    """Last learning rate as a share of the peak."""
    clip_norm: float = 5.0
    """Largest norm of the gradient."""


@dataclass(frozen=True)
class BatchConfig:
    """Utterances of similar length go together, as many as fit the audio budget."""

    seconds: float = 100.0
    """Largest sum of padded audio in a batch."""
    max_utterances: int = 48
    """Most utterances in a batch."""
    shortest_first: bool = True
    """First epoch in order of length (SortaGrad, arXiv:1512.02595); random batches after."""
    workers: int = 1
    """Processes that read audio and compute features ahead of the training step."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything ``asr train`` reads from its configuration file."""

    seed: int = 1
    """Initial weights, batches, dropout and augmentation all follow from it."""
    epochs: int = 40
    """Epochs; each ends with a look at the dev set and a checkpoint."""
    passes: int = 1
    """Passes over the training set in an epoch, each with random changes of its own: small
    corpora need not be evaluated after each."""
    patience: int = 0
    """Stop after this many epochs without a better dev score; 0 never stops early."""
    average: int = 5
    """final.safetensors is the mean of this many epochs with the best dev score."""
    checkpoint_minutes: float = 5.0
    """Longest time without a checkpoint, in minutes; each epoch ends with one anyway."""
    alignment_alarm_step: int = 3000
    """Warn when the attention does not run along the audio by this step; 0 never warns."""
    skip_limit: int = 20
    """Stop after this many batches with a loss or gradient that is not finite."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: the large matrix products round what they read and write to bfloat16, which pays
    where the processor has instructions for it (``asr doctor``); all else stays float32."""
    threads: int = 0
    """CPU threads for the matrix products; 0 takes every core."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    features: FeatureConfig = field(default_factory=FeatureConfig)
    """Waveform to features."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Random changes of the training audio."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Sizes of the network."""
    loss: LossConfig = field(default_factory=LossConfig)
    """What is minimised."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """How it is minimised."""
    batch: BatchConfig = field(default_factory=BatchConfig)
    """How utterances are grouped."""


@dataclass(frozen=True)
class LMConfig:
    """A character language model and its training; ``asr lm train`` reads it."""

    seed: int = 1
    """Initial weights, batches and dropout all follow from it."""
    epochs: int = 40
    """Passes over the text; the one with the lowest dev perplexity is kept."""
    patience: int = 8
    """Stop after this many epochs without a lower dev perplexity; 0 never stops early."""
    held_out: float = 0.05
    """Share of the sentences that is kept apart to choose the epoch where there is no dev text."""
    units: int = 256
    """GRU units."""
    layers: int = 1
    """GRU layers."""
    embedding: int = 64
    """Character embedding width."""
    dropout: float = 0.4
    """Dropout on the embedding, between layers and before the output."""
    batch: int = 32
    """Sentences in a batch."""
    learning_rate: float = 2e-3
    """Peak learning rate of AdamW; it falls to 0 along a cosine."""
    weight_decay: float = 1e-2
    """Decoupled weight decay."""


@dataclass(frozen=True)
class DecodeConfig:
    """Search settings of ``asr decode`` and ``asr transcribe``."""

    beam: int = 8
    """Hypotheses kept per utterance (K); 1 is greedy search."""
    nbest: int = 1
    """Hypotheses returned per utterance."""
    ctc_weight: float = 0.3
    """Share of the CTC prefix score in (1 - w) * attention + w * CTC; 0 leaves CTC out."""
    lm: str = ""
    """Language model file of `asr lm train`; empty: none."""
    lm_weight: float = 0.3
    """Weight of the language model's log-probability (shallow fusion), where there is one."""
    word_lm: str = ""
    """Word n-gram: an ARPA file, as `asr lm ngram` and others write it, plain or .gz; empty: none.
    It guesses characters by looking ahead to the words that may follow."""
    lm_share: float = 0.5
    """With lm and word_lm: share of lm in the probability of words that word_lm knows; it spells
    all others in any case."""
    oov_penalty: float = 0.0
    """Taken from word_lm's log-probability of every word that it does not know."""
    hotwords: str = ""
    """File of words and phrases to favour, one a line, each with a tab and a weight or without;
    empty: none."""
    hotword_weight: float = 1.0
    """What each character of a hot word without a weight of its own adds to the score; above 1.5
    hot words are also found where nobody says them."""
    length_bonus: float = 0.0
    """Added per character; makes up for the search's liking for short output."""
    coverage_weight: float = 0.0
    """Reward per encoder step that received attention above coverage_threshold."""
    coverage_threshold: float = 0.5
    """Attention that an encoder step must gather to count as covered."""
    eos_threshold: float = 0.0
    """End a sentence only when its log-probability is at least this factor times the best
    other character's (1.5 in arXiv:1904.02619); 0 turns the check off."""
    end_margin: float = 10.0
    """Give up what goes on when it is so much worse than the finished hypotheses; 0 goes on as
    long as bonuses could make up for it."""
    max_ratio: float = 1.0
    """Most characters per encoder step."""
    batch: int = 16
    """Utterances decoded side by side."""


@dataclass(frozen=True)
class SegmentationConfig:
    """How ``asr transcribe`` cuts audio into pieces that a model can follow."""

    vad: Literal["silero", "fixed", "none"] = "silero"
    """silero: what a speech detector hears as speech, cut at pauses; fixed: everything, cut at a
    quiet place after 20 to 30 s; none: everything in one piece, up to 60 s."""
    threshold: float = 0.5
    """Speech begins where its probability reaches this; it ends 0.15 below."""
    pause_s: float = 0.5
    """A pause of this length ends a segment at once; the longer a segment gets, the shorter a
    pause will do."""
    padding_s: float = 0.3
    """Audio kept before and after speech, as far as its neighbours leave some."""
    longest_s: float = 15.0
    """Speech that goes on for so long is cut at its quietest place."""


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain dictionaries and lists, ready for YAML or JSON."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return list(value) if isinstance(value, tuple) else value

    result: dict[str, Any] = plain(asdict(config))
    return result


def add_settings(parser: ArgumentParser, cls: type) -> None:
    """Add ``--config FILE`` and an option for every setting of a dataclass to a parser."""
    from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]

    parser.add_argument(
        "--config",
        action=ActionConfigFile,
        metavar="FILE",
        help="YAML file with settings; options given after it win.",
    )
    parser.add_class_arguments(cls, as_group=False)


def make_parser(prog: str, description: str) -> ArgumentParser:
    """An argument parser that reads the text beside a field as its help."""
    from jsonargparse import ArgumentParser, set_parsing_settings

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    return ArgumentParser(prog=prog, description=description, exit_on_error=False)


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """Where and how the network computes; :func:`asr.device.use_machine` carries it out."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 takes every core")
    parser.add_argument(
        "--precision",
        choices=["float32", "bfloat16"],
        default="float32",
        help="bfloat16: large matrix products round what they read and write, which takes less "
        "time where the processor has instructions for it (`asr doctor`)",
    )


def from_dict(cls: type[Config], values: dict[str, Any], where: str = "config") -> Config:
    """Build a configuration from plain dictionaries; the inverse of :func:`to_dict`.

    Args:
        cls: one of the dataclasses of this module.
        values: settings; those left out keep their defaults.
        where: named in the error message, for example a file's path.

    Raises:
        InputError: a key is unknown or a value has the wrong type.
    """
    parser = make_parser(where, "")
    parser.add_class_arguments(cls, as_group=False)
    try:
        settings = parser.instantiate(parser.parse_object(values))
    except argparse.ArgumentError as error:
        raise InputError(f"{where}: {error}; `asr train --help` lists the settings") from error
    return cls(**{f.name: settings[f.name] for f in fields(cls)})  # type: ignore[arg-type]


def from_args(
    cls: type[Config],
    parser: ArgumentParser,
    args: Sequence[str],
    defaults: Callable[[Any], dict[str, Any]] = lambda options: {},
) -> tuple[Config, Any]:
    """Parse a command line that mixes the settings of ``cls`` with other options.

    Args:
        cls: the dataclass whose settings were added with :func:`add_settings`.
        parser: from :func:`make_parser`.
        args: the command line without the program's name.
        defaults: told what the command line says, gives settings that hold where neither it nor
            a file names others.

    Returns:
        the configuration, and the namespace with every parsed value.

    Raises:
        InputError: an option is unknown or a value has the wrong type.
    """
    where = parser.prog
    try:
        namespace = parser.parse_args(list(args))
        if settings := defaults(namespace):
            parser.set_defaults(settings)
            namespace = parser.parse_args(list(args))
    except argparse.ArgumentError as error:
        raise InputError(f"{error}; see {where} --help") from error
    values = {f.name: namespace[f.name] for f in fields(cls)}  # type: ignore[arg-type]
    return from_dict(cls, {k: _as_dict(v) for k, v in values.items()}, where), namespace


def _as_dict(value: Any) -> Any:
    return value.as_dict() if hasattr(value, "as_dict") else value


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file that holds a table of settings.

    Raises:
        InputError: the file is missing, is not YAML, or does not hold a table.
    """
    import yaml

    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot read ({error.strerror}); check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a YAML file: {error}") from error
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise InputError(f"{path}: found {type(values).__name__}, expected a table of settings")
    return values
