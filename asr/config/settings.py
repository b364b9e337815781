"""The settings, each declared once with its type, range, YAML key and help text.

A configuration is a tree of frozen dataclasses. ``asr train --config conf/train.yaml
--optim.learning_rate 0.002`` reads the file and refuses keys that are not declared; options
override the file. The resolved tree is stored beside the model as config.yaml.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

from asr.config.attention import AttentionConfig
from asr.config.field import (
    FRACTION,
    SEED,
    SIZE,
    THREADS,
    Check,
    ConflictError,
    Settings,
    at_least,
    below,
    between,
    each,
    finite,
    more_than,
    one_of,
    setting,
)
from asr.config.kinds import CELLS
from asr.config.layers import LayerConfig, Recurrent, Steps

DROPOUT = below(0.9995)  # probabilities are rounded to thousandths
FEW_LAYERS = Check("64 layers or less", lambda value: len(value) <= 64)
CHANGE = between(0, 0.4)  # speakers differ by less
RATIOS = Check(
    "two numbers from -200 to 200, the lower one first",
    lambda value: -200 <= value[0] <= value[1] <= 200,
)
MOST_HYPOTHESES = 100_000  # of an utterance
WEIGHT = between(0, 1000)
HYSTERESIS = 0.15  # speech ends when its probability is this far below the threshold
LOWEST_THRESHOLD = 0.2  # so that there is a probability at which speech ends
SHORTEST_PAUSE_S = 0.2  # the shortest pause that may end a segment


@dataclass(frozen=True)
class FeatureConfig(Settings):
    """Waveform to features; the defaults give Kaldi's 80-bin log-mel filterbanks."""

    kind: Literal["fbank", "mfcc"] = "fbank"
    """fbank: log-mel energies; mfcc: their cosine transform."""
    sample_rate: int = setting(16000, between(1000, 768000))
    """Sample rate in Hz; inputs of other rates are resampled."""
    mel_bins: int = setting(80, between(1, 1024))
    """Number of triangular mel filters (F)."""
    ceps: int = setting(13, between(1, 1024))
    """Number of cepstral coefficients, for mfcc only."""
    frame_length_ms: float = setting(25.0, between(1, 1000))
    """Length of the analysis window in ms."""
    frame_shift_ms: float = setting(10.0, between(0.1, 1000))
    """Distance between two frames in ms."""
    low_freq_hz: float = setting(20.0, at_least(0))
    """Lower edge of the first mel filter in Hz."""
    high_freq_hz: float = setting(0.0, finite())
    """Upper edge of the last mel filter in Hz; 0 or less is relative to half the sample rate."""
    dither: float = setting(0.0, at_least(0))
    """Standard deviation of Gaussian noise added to 16-bit samples; 0 adds none."""
    level: bool = False
    """Scale every utterance so that its loud frames have the same level, for recordings of very
    different loudness."""
    delta_order: int = setting(0, between(0, 8))
    """0: static features; 1: with deltas; 2: with deltas and accelerations."""
    cmvn: Literal["global", "speaker", "none"] = "global"
    """Mean and variance normalisation: global (of the training set), per speaker, or none."""

    @property
    def dim(self) -> int:
        """Width of a feature frame (F)."""
        static = self.mel_bins if self.kind == "fbank" else self.ceps
        return static * (1 + self.delta_order)

    @property
    def shift(self) -> int:
        """Samples from one frame to the next."""
        return int(self.frame_shift_ms * self.sample_rate / 1000)

    @property
    def shift_s(self) -> float:
        """Seconds from one frame to the next."""
        return self.shift / self.sample_rate

    def check(self) -> None:
        """Check that windows contain samples and filters lie below half the sample rate."""
        if self.frame_length_ms * self.sample_rate < 2 * 1000:
            raise ConflictError("frame_length_ms", self.frame_length_ms, "2 samples or more")
        if self.frame_shift_ms * self.sample_rate < 1000:
            raise ConflictError("frame_shift_ms", self.frame_shift_ms, "1 sample or more")
        if self.kind == "mfcc" and self.ceps > self.mel_bins:
            raise ConflictError("ceps", self.ceps, f"at most mel_bins = {self.mel_bins}")
        nyquist = self.sample_rate / 2
        high_hz = self.high_freq_hz if self.high_freq_hz > 0 else nyquist + self.high_freq_hz
        if not 0 <= self.low_freq_hz < high_hz <= nyquist:
            expected = f"0 <= low < high <= {nyquist:g} (half the sample rate); high is {high_hz:g}"
            raise ConflictError("low_freq_hz", self.low_freq_hz, expected)


@dataclass(frozen=True)
class AugmentConfig(Settings):
    """Random changes of the training audio; never applied to dev or test."""

    speeds: tuple[float, ...] = setting((0.9, 1.0, 1.1), each("factors such as 0.9", 0.1, 10))
    """Speed factors, one drawn per utterance and pass; [1.0] turns it off."""
    vtln: float = setting(0.0, CHANGE)
    """Vocal tract length perturbation: warp the frequency axis by a factor drawn from 1 - vtln to
    1 + vtln; 0 turns it off, 0.1 is usual."""
    volume_db: float = setting(6.0, between(0, 200))
    """Gain in dB, drawn uniformly from -volume_db to +volume_db."""
    narrowband_prob: float = setting(0.0, FRACTION)
    """Probability that an utterance loses all frequencies above 4 kHz, as on the telephone."""
    noise_prob: float = setting(0.0, FRACTION)
    """Probability that noise is added to an utterance."""
    noise_snr_db: tuple[float, float] = setting((5.0, 25.0), RATIOS)
    """Range of the signal-to-noise ratio in dB."""
    noise_dir: str = ""
    """Folder of noise recordings; empty: generated white, pink and brown noise."""
    freq_masks: int = setting(2, between(0, 1000))
    """SpecAugment: number of frequency masks, set to 0, the mean of normalised features
    (arXiv:1904.08779)."""
    freq_width: int = setting(20, at_least(0))
    """Largest width of a frequency mask in mel bins."""
    time_masks: int = setting(2, between(0, 1000))
    """SpecAugment: number of time masks, set to 0."""
    time_width: int = setting(40, at_least(0))
    """Largest width of a time mask in frames."""
    time_ratio: float = setting(0.2, FRACTION)
    """Largest width of a time mask as a fraction of the utterance."""


@dataclass(frozen=True)
class EncoderConfig(Settings):
    """A stack of layers: by default a pyramidal bidirectional GRU (arXiv:1508.01211)."""

    layers: tuple[LayerConfig, ...] = setting((), FEW_LAYERS)
    """List of layers, such as [{kind: lstm, units: 256, directions: 1, reduction: 2}], of the kinds
    gru, lstm, conv2d and attention; asr/config/layers.py has the settings of each kind. If the list
    is empty, units and pyramid describe the layers; otherwise they are ignored."""
    units: int = setting(256, SIZE)
    """GRU units per direction; the encoder width is D = 2 * units."""
    pyramid: tuple[int, ...] = setting((2, 2, 1), each("a number from 1 for each layer", 1, 1000))
    """One GRU layer for each entry, which concatenates this many neighbouring steps."""
    dropout: float = setting(0.3, DROPOUT)
    """Dropout on the output of every layer except convolutions."""

    @property
    def stack(self) -> tuple[LayerConfig, ...]:
        """All layers, from the features upwards."""
        return self.layers or tuple(Recurrent("gru", r, self.units) for r in self.pyramid)

    @property
    def frames_per_step(self) -> int:
        """Feature frames per encoder step."""
        return math.prod(layer.reduction for layer in self.stack)

    def output_steps(self, frames: Steps) -> Steps:
        """Return the number of encoder steps for a number of frames."""
        for layer in self.stack:
            frames = layer.output_steps(frames)
        return frames

    def width(self, inputs: int) -> int:
        """Return the width of an encoder step (D) for the width of a frame (F)."""
        for layer in self.stack:
            inputs = layer.width(inputs)
        return inputs

    def fewest_weights(self, inputs: int) -> int:
        """Return a lower bound of the number of weights for the width of a frame (F)."""
        total = 0
        for layer in self.stack:
            total, inputs = total + layer.fewest_weights(inputs), layer.width(inputs)
        return total


@dataclass(frozen=True)
class DecoderConfig(Settings):
    """Recurrent decoder that emits characters."""

    cell: str = setting("gru", one_of(CELLS))
    """Recurrent cell; each file of asr/model/cells is one."""
    units: int = setting(256, SIZE)
    """Decoder state width (H)."""
    embedding: int = setting(128, SIZE)
    """Character embedding width."""
    dropout: float = setting(0.3, DROPOUT)
    """Dropout on the embedding and in the readout."""


@dataclass(frozen=True)
class ModelConfig(Settings):
    """Encoder, attention and decoder."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """The layers from features to encoder steps."""
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    """The attention of the decoder over the encoder steps."""
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    """The layers from attention contexts to characters."""
    reset: Literal["after", "before"] = "after"
    """Where GRUs apply the reset gate: after the matrix product (as cuDNN), or before it
    (arXiv:1406.1078)."""


@dataclass(frozen=True)
class LossConfig(Settings):
    """The training loss: (1 - ctc_weight) * attention + ctc_weight * CTC + consistency + guide."""

    ctc_weight: float = setting(0.3, below(1))
    """Weight of the CTC head on the encoder; 0 leaves the head untrained."""
    label_smoothing: float = setting(0.1, below(1))
    """Probability of the target that is spread over all characters (attention loss only)."""
    consistency: float = setting(0.0, at_least(0))
    """Weight of the difference between the CTC outputs of two differently masked copies of each
    utterance (CR-CTC, arXiv:2410.05101); 0 makes only one copy, 0.2 is usual, with 2.5 times as
    many time masks."""
    guide: float = setting(0.0, at_least(0))
    """Weight of a penalty on attention far from the diagonal (arXiv:1710.08969); it falls to 0
    over the first guide_epochs."""
    guide_epochs: int = setting(6, at_least(1))
    """Number of epochs with a guide penalty."""

    @property
    def copies(self) -> int:
        """Number of copies of each utterance in its batch."""
        return 2 if self.consistency > 0 else 1


@dataclass(frozen=True)
class OptimConfig(Settings):
    """Optimiser and learning-rate schedule."""

    learning_rate: float = setting(1e-3, more_than(0))
    """Peak learning rate of AdamW."""
    weight_decay: float = setting(1e-2, at_least(0))
    """Weight decay: a step multiplies the weights by 1 - learning rate * weight_decay."""
    warmup_steps: int = setting(200, at_least(0))
    """Steps in which the rate rises linearly from 0 to the peak, at most a third of all."""
    decay: Literal["cosine", "none"] = "cosine"
    """How the rate falls after decay_start."""
    decay_start: float = setting(0.3, FRACTION)
    """Fraction of all steps after which the rate falls."""
    final_ratio: float = setting(0.01, FRACTION)
    """Last learning rate as a fraction of the peak."""
    clip_norm: float = setting(5.0, more_than(0))
    """Largest norm of the gradient."""


@dataclass(frozen=True)
class BatchConfig(Settings):
    """Batches of utterances of similar length."""

    seconds: float = setting(100.0, more_than(0))
    """Largest total length of the audio in a batch in seconds, with padding; each utterance counts
    once, at its original speed."""
    max_utterances: int = setting(48, at_least(1))
    """Largest number of utterances in a batch."""
    shortest_first: bool = True
    """Sort the first pass by length (SortaGrad, arXiv:1512.02595); later ones are shuffled."""
    accumulate: int = setting(1, between(1, 10_000))
    """Number of micro-batches that each process computes for a batch, one after another; they give
    the same gradient with less memory."""
    halve: bool = False
    """Where memory runs out, compute the utterances at hand in two halves."""
    workers: int = setting(1, at_least(0))
    """Number of processes that read audio and compute features ahead of the training step."""


@dataclass(frozen=True)
class DistributedConfig(Settings):
    """Training with several processes, started by torchrun."""

    timeout_s: float = setting(600.0, between(1, 86400))
    """Longest wait for another process in seconds; then this process ends and names that one."""


@dataclass(frozen=True)
class ShardConfig(Settings):
    """How tar shards of ``asr data shard`` are read."""

    group: int = setting(16, at_least(1))
    """Number of shards whose utterances are mixed; each pass draws the shards of its groups."""
    missing: int = setting(0, at_least(0))
    """Number of shards that may be missing; their utterances are left out with a warning."""
    timeout_s: float = setting(30.0, between(0.1, 3600))
    """Longest time of a request to a server in seconds; it is then repeated."""
    tries: int = setting(8, between(1, 100))
    """Number of times that a request is sent before the training stops; the pauses double."""


@dataclass(frozen=True)
class TrainConfig(Settings):
    """Settings of ``asr train``."""

    seed: int = setting(1, SEED)
    """Seed of initial weights, batches, dropout and augmentation."""
    epochs: int = setting(40, at_least(1))
    """Number of epochs; each ends with an evaluation on the dev set and a checkpoint."""
    passes: int = setting(1, between(1, 100_000))
    """Passes over the training set in an epoch, each augmented differently; more than one saves
    evaluations with a small corpus."""
    patience: int = setting(0, at_least(0))
    """Stop after this many epochs without a better dev score; 0 never stops early."""
    average: int = setting(5, at_least(1))
    """Number of epochs with the best dev scores whose mean weights become final.safetensors."""
    checkpoint_minutes: float = setting(5.0, at_least(0))
    """Longest time without a checkpoint in minutes; every epoch also ends with one."""
    checkpoints: int = setting(2, between(1, 10_000))
    """Number of checkpoints that are kept. If the newest is damaged, the one before is used."""
    alignment_alarm_step: int = setting(3000, at_least(0))
    """Warn if the attention is not monotonic by this step; 0 never warns."""
    skip_limit: int = setting(20, at_least(1))
    """Stop after this many batches whose loss or gradient is not finite."""
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """bfloat16: round the inputs and outputs of large matrix products to bfloat16; auto: where that
    is faster, on GPUs and on processors with AMX or AVX512_BF16 (see `asr doctor`)."""
    threads: int = setting(0, THREADS)
    """CPU threads; 0 uses every core."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    features: FeatureConfig = field(default_factory=FeatureConfig)
    """Features."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Random changes of the training audio."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The network."""
    loss: LossConfig = field(default_factory=LossConfig)
    """The loss."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """The optimiser."""
    batch: BatchConfig = field(default_factory=BatchConfig)
    """The batches."""
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    """Several processes."""
    shards: ShardConfig = field(default_factory=ShardConfig)
    """Reading of tar shards."""

    @property
    def step_s(self) -> float:
        """Seconds of an encoder step."""
        return self.features.shift_s * self.model.encoder.frames_per_step


@dataclass(frozen=True)
class LMConfig(Settings):
    """Settings of ``asr lm train``: a character language model and its training."""

    seed: int = setting(1, SEED)
    """Seed of initial weights, batches and dropout."""
    epochs: int = setting(40, at_least(1))
    """Passes over the text; the model of the lowest dev perplexity is kept."""
    patience: int = setting(8, at_least(0))
    """Stop after this many epochs without a lower dev perplexity; 0 never stops early."""
    held_out: float = setting(0.05, below(1))
    """Fraction of the sentences that is held out to choose the epoch, if there is no dev text."""
    units: int = setting(256, SIZE)
    """GRU units."""
    layers: int = setting(1, between(1, 64))
    """GRU layers."""
    embedding: int = setting(64, SIZE)
    """Character embedding width."""
    dropout: float = setting(0.4, DROPOUT)
    """Dropout on the embedding, between layers and before the output."""
    batch: int = setting(32, at_least(1))
    """Sentences in a batch."""
    learning_rate: float = setting(2e-3, more_than(0))
    """Peak learning rate of AdamW; it falls to 0 along a cosine."""
    weight_decay: float = setting(1e-2, at_least(0))
    """Decoupled weight decay."""


@dataclass(frozen=True)
class DecodeConfig(Settings):
    """Settings of the beam search."""

    beam: int = setting(8, between(1, MOST_HYPOTHESES))
    """Beam width: hypotheses per utterance (K); 1 is greedy search."""
    nbest: int = setting(1, between(1, MOST_HYPOTHESES))
    """Hypotheses returned per utterance."""
    ctc_weight: float = setting(0.3, FRACTION)
    """Weight w of the CTC prefix score in (1 - w) * decoder + w * CTC; 0 leaves CTC out."""
    lm: str = ""
    """Character language model of `asr lm train`."""
    lm_weight: float = setting(0.3, WEIGHT)
    """Weight of the log-probability of lm and word_lm (shallow fusion)."""
    word_lm: str = ""
    """Word n-gram: an ARPA file of `asr lm ngram` or another toolkit, plain or .gz. It scores
    characters by looking ahead to the words that they may become."""
    lm_share: float = setting(0.5, below(1))
    """If both lm and word_lm are given: weight of lm in the probability of words that word_lm
    knows. Other words are scored by lm alone."""
    oov_penalty: float = setting(0.0, WEIGHT)
    """Subtracted from the log-probability of every word that word_lm does not know."""
    hotwords: str = ""
    """File of words and phrases to favour: one in each line, optionally followed by a tab and a
    weight."""
    hotword_weight: float = setting(1.0, between(0, 100))
    """Bonus for each character of a hot word that has no weight of its own; above 1.5, hot words
    are also inserted where nobody says them."""
    length_bonus: float = setting(0.0, between(-1000, 1000))
    """Bonus per character, because the search prefers short hypotheses."""
    coverage_weight: float = setting(0.0, WEIGHT)
    """Bonus per encoder step whose attention exceeds coverage_threshold."""
    coverage_threshold: float = setting(0.5, at_least(0))
    """Sum of attention weights above which an encoder step counts as covered."""
    eos_threshold: float = setting(0.0, at_least(0))
    """Accept <eos> only if its log-probability is at least this factor times that of the best
    other character (1.5 in arXiv:1904.02619); 0 always accepts it."""
    end_margin: float = setting(10.0, at_least(0))
    """Stop once every open hypothesis trails the finished ones by this much; 0: stop once no
    bonus could make up for the difference."""
    max_ratio: float = setting(1.0, more_than(0, 100))
    """Largest number of characters per encoder step."""
    batch: int = setting(16, at_least(1))
    """Number of utterances decoded together."""


@dataclass(frozen=True)
class SegmentationConfig(Settings):
    """How ``asr transcribe`` cuts audio into segments."""

    vad: Literal["silero", "fixed", "none"] = "silero"
    """silero: keep what a speech detector takes for speech, cut at pauses; fixed: keep everything,
    cut at a quiet place after 20 to 30 s; none: one segment, up to 60 s. Only silero reads the
    settings below."""
    threshold: float = setting(0.5, between(LOWEST_THRESHOLD, 1))
    """Speech begins at this probability of speech, and ends 0.15 below it."""
    pause_s: float = setting(0.5, between(SHORTEST_PAUSE_S, 60))
    """A pause of this many seconds ends a segment; in longer segments, shorter pauses do."""
    padding_s: float = setting(0.3, between(0, 5))
    """Seconds of audio kept before and after speech, without overlap between segments."""
    longest_s: float = setting(15.0, between(2, 60))
    """A segment that reaches this many seconds is cut at its quietest place."""

    def check(self) -> None:
        """Check that pauses are shorter than segments, and that every setting has an effect."""
        if self.pause_s > self.longest_s:
            raise ConflictError("pause_s", self.pause_s, f"at most longest_s = {self.longest_s:g}")
        for name in ("threshold", "pause_s", "padding_s", "longest_s"):
            value, default = getattr(self, name), getattr(type(self), name)
            if self.vad != "silero" and value != default:
                expected = f"{default:g}, the default, because only vad = silero reads it"
                raise ConflictError(name, value, expected)


@dataclass(frozen=True)
class ExplainConfig(Settings):
    """How ``asr explain`` measures what a text depends on."""

    masks: int = setting(500, between(2, 100000))
    """Number of stretches of a segment's audio that are hidden, one at a time; at most one for each
    frame."""
    stretch_s: float = setting(0.16, between(0.01, 10))
    """Length of a hidden stretch of audio in seconds."""
