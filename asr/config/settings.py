"""Every setting, declared once: its type, its range, its YAML key and its ``--help``.

A configuration is a tree of frozen dataclasses. ``asr train --config conf/train.yaml
--optim.learning_rate 0.002`` reads the file, refuses keys that are not declared here,
and the command line wins. The resolved tree is stored beside the model as config.yaml.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

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
    odd,
    one_of,
    setting,
)
from asr.config.kinds import ATTENTIONS, CELLS
from asr.config.layers import Convolutions, LayerConfig, Recurrent, Steps

DROPOUT = below(0.9995)  # the network drops in thousandths
FEW_LAYERS = Check("64 layers or less", lambda value: len(value) <= 64)
CHANGE = between(0, 0.4)  # speakers differ by less
RATIOS = Check("the lower one first", lambda value: -200 <= value[0] <= value[1] <= 200)
HYSTERESIS = 0.15  # speech ends where its probability falls so far below the threshold
SHORTEST_PAUSE_S = 0.2  # that ends even the longest segment


@dataclass(frozen=True)
class FeatureConfig(Settings):
    """Waveform to features; the defaults give Kaldi's 80-bin log-mel filterbanks."""

    kind: Literal["fbank", "mfcc"] = "fbank"
    """fbank: log-mel energies; mfcc: their cosine transform."""
    sample_rate: int = setting(16000, between(1000, 768000))
    """Rate in Hz that every input is resampled to."""
    mel_bins: int = setting(80, between(1, 1024))
    """Triangular mel filters (F)."""
    ceps: int = setting(13, between(1, 1024))
    """Cepstral coefficients kept, for mfcc only."""
    frame_length_ms: float = setting(25.0, between(1, 1000))
    """Length of the analysis window."""
    frame_shift_ms: float = setting(10.0, between(0.1, 1000))
    """Distance between two frames."""
    low_freq_hz: float = setting(20.0, at_least(0))
    """Lower edge of the first mel filter."""
    high_freq_hz: float = setting(0.0, finite())
    """Upper edge of the last mel filter; 0 or less counts from half the sample rate."""
    dither: float = setting(0.0, at_least(0))
    """Gaussian noise added to 16-bit samples; 0 keeps features reproducible."""
    level: bool = False
    """Bring every utterance to the same loudness, that of its loud frames: for recordings of
    very different levels."""
    delta_order: int = setting(0, between(0, 8))
    """0: static features; 1: with deltas; 2: with deltas and accelerations."""
    cmvn: Literal["global", "speaker", "none"] = "global"
    """Mean and variance normalisation: over the training set, per speaker, or none."""

    @property
    def dim(self) -> int:
        """Width of a feature frame (F)."""
        static = self.mel_bins if self.kind == "fbank" else self.ceps
        return static * (1 + self.delta_order)

    def check(self) -> None:
        """Windows hold samples, and filters lie below half the sample rate."""
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
    """Speed factors, one drawn per utterance and epoch; (1.0,) turns it off."""
    vtln: float = setting(0.0, CHANGE)
    """Warp the frequency axis by factors drawn from 1 - vtln to 1 + vtln, as if other people
    spoke (vocal tract length perturbation); 0 turns it off, 0.1 is usual."""
    tempo: float = setting(0.0, CHANGE)
    """Stretch the frame shift by factors drawn from 1 - tempo to 1 + tempo: faster and slower
    speech of the same pitch."""
    volume_db: float = setting(6.0, between(0, 200))
    """Gain drawn evenly from -volume_db to +volume_db."""
    narrowband_prob: float = setting(0.0, FRACTION)
    """Chance that an utterance loses what is above 4 kHz, as on the telephone."""
    noise_prob: float = setting(0.0, FRACTION)
    """Chance that noise is added to an utterance."""
    noise_snr_db: tuple[float, float] = setting((5.0, 25.0), RATIOS)
    """Range of the signal-to-noise ratio."""
    noise_dir: str = ""
    """Folder of noise recordings; empty: white, pink and brown noise are made."""
    freq_masks: int = setting(2, between(0, 1000))
    """SpecAugment: bands of mel bins set to the mean (arXiv:1904.08779)."""
    freq_width: int = setting(20, at_least(0))
    """Largest width of a band in bins."""
    time_masks: int = setting(2, between(0, 1000))
    """SpecAugment: stretches of frames set to the mean."""
    time_width: int = setting(40, at_least(0))
    """Largest length of a stretch in frames."""
    time_ratio: float = setting(0.2, FRACTION)
    """No stretch is longer than this share of the utterance."""


@dataclass(frozen=True)
class EncoderConfig(Settings):
    """A stack of layers: by default a pyramidal bidirectional GRU (arXiv:1508.01211)."""

    layers: tuple[LayerConfig, ...] = setting((), FEW_LAYERS)
    """The layers one by one, such as [{kind: lstm, units: 256, directions: 1, reduction: 2}], of
    the kinds gru, lstm, conv2d and attention; asr/config/layers.py has the settings of each. Empty:
    those that frontend, units and pyramid stand for, which mean nothing otherwise."""
    frontend: Literal["none", "conv"] = "none"
    """conv: two 3x3 convolutions, each with stride 2 in time and frequency, come first."""
    frontend_channels: int = setting(32, SIZE)
    """Channels of the convolutional front-end."""
    units: int = setting(256, SIZE)
    """GRU units per direction; the encoder width is D = 2 * units."""
    pyramid: tuple[int, ...] = setting((2, 2, 1), each("a number from 1 for each layer", 1, 1000))
    """A GRU layer for each entry; it sees this many neighbouring steps side by side."""
    dropout: float = setting(0.3, DROPOUT)
    """Dropout on the output of every layer but convolutions."""

    @property
    def stack(self) -> tuple[LayerConfig, ...]:
        """All layers, from the features on."""
        if self.layers:
            return self.layers
        front = [Convolutions(channels=self.frontend_channels)] if self.frontend == "conv" else []
        return (*front, *(Recurrent("gru", r, self.units) for r in self.pyramid))

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
        """Width of an encoder step (D) for that of a frame (F)."""
        for layer in self.stack:
            inputs = layer.width(inputs)
        return inputs

    def fewest_weights(self, inputs: int) -> int:
        """Weights that all layers have in any case, by the width of a frame (F)."""
        total = 0
        for layer in self.stack:
            total, inputs = total + layer.fewest_weights(inputs), layer.width(inputs)
        return total


@dataclass(frozen=True)
class AttentionConfig(Settings):
    """How the decoder looks at the encoder."""

    kind: str = setting("location", one_of(ATTENTIONS))
    """location: content and the weights of the last character (arXiv:1506.07503). Each file of
    asr/model/attention is a kind, with its equations."""
    units: int = setting(128, SIZE)
    """Width of the energy layer (A)."""
    filters: int = setting(10, SIZE)
    """Filters over the last weights (C), for location only."""
    filter_width: int = setting(31, odd(1))
    """Width of such a filter in encoder steps; odd."""


@dataclass(frozen=True)
class DecoderConfig(Settings):
    """Recurrent decoder that emits characters."""

    cell: str = setting("gru", one_of(CELLS))
    """Recurrent cell. Each file of asr/model/cells is one."""
    units: int = setting(256, SIZE)
    """Decoder state width (H)."""
    embedding: int = setting(128, SIZE)
    """Character embedding width."""
    dropout: float = setting(0.3, DROPOUT)
    """Dropout on the embedding and in the readout."""


@dataclass(frozen=True)
class ModelConfig(Settings):
    """Filterbanks in, characters out."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """The layers that read the audio."""
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    """The link between the two."""
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    """The speller."""
    reset: Literal["after", "before"] = "after"
    """Reset gate of all GRUs: after the product as in cuDNN, or before it as in the paper."""


@dataclass(frozen=True)
class LossConfig(Settings):
    """What training minimises: (1 - ctc_weight) * attention + ctc_weight * CTC."""

    ctc_weight: float = setting(0.3, FRACTION)
    """Weight of the CTC head on the encoder; 0 leaves the head untrained."""
    label_smoothing: float = setting(0.1, below(1))
    """Share of the target spread over all characters (attention loss only)."""
    consistency: float = setting(0.0, at_least(0))
    """Weight of what two differently masked copies of each utterance, side by side in the
    batch, disagree about in CTC (CR-CTC, arXiv:2410.05101); 0 makes one copy, 0.2 is usual."""
    guide: float = setting(0.0, at_least(0))
    """Weight of a penalty on attention that is far from the diagonal (arXiv:1710.08969), which
    falls to nothing over the first guide_epochs: speech is read from left to right."""
    guide_epochs: int = setting(6, at_least(0))
    """Epochs after which attention has no guide any more."""
    scheduled_sampling: float = setting(0.0, FRACTION)
    """Chance that the decoder reads its own guess instead of the true character."""
    sampling_start_epoch: int = setting(0, at_least(0))
    """Epoch from which scheduled sampling is on."""


@dataclass(frozen=True)
class OptimConfig(Settings):
    """Optimiser and learning-rate schedule."""

    kind: Literal["adamw", "adam", "adadelta"] = "adamw"
    """Update rule."""
    learning_rate: float = setting(1e-3, more_than(0))
    """Peak learning rate (1.0 suits adadelta)."""
    weight_decay: float = setting(1e-2, at_least(0))
    """Decoupled for adamw, added to the gradient otherwise."""
    warmup_steps: int = setting(200, at_least(0))
    """Steps of linear rise from 0 to the peak."""
    decay: Literal["cosine", "none"] = "cosine"
    """Shape of the fall after decay_start."""
    decay_start: float = setting(0.3, FRACTION)
    """Share of all steps after which the rate falls."""
    final_ratio: float = setting(0.01, FRACTION)
    """Last learning rate as a share of the peak."""
    clip_norm: float = setting(5.0, more_than(0))
    """Largest norm of the gradient."""


@dataclass(frozen=True)
class BatchConfig(Settings):
    """Utterances of similar length go together, as many as fit the audio budget."""

    seconds: float = setting(100.0, more_than(0))
    """Largest sum of padded audio in a batch."""
    max_utterances: int = setting(48, at_least(1))
    """Most utterances in a batch."""
    shortest_first: bool = True
    """First epoch in order of length (SortaGrad, arXiv:1512.02595); random batches after."""
    workers: int = setting(1, at_least(0))
    """Processes that read audio and compute features ahead of the training step."""


@dataclass(frozen=True)
class TrainConfig(Settings):
    """Everything ``asr train`` reads from its configuration file."""

    seed: int = setting(1, SEED)
    """Initial weights, batches, dropout and augmentation all follow from it."""
    epochs: int = setting(40, at_least(1))
    """Epochs; each ends with a look at the dev set and a checkpoint."""
    passes: int = setting(1, at_least(1))
    """Passes over the training set in an epoch, each with random changes of its own: small
    corpora need not be evaluated after each."""
    patience: int = setting(0, at_least(0))
    """Stop after this many epochs without a better dev score; 0 never stops early."""
    average: int = setting(5, at_least(1))
    """final.safetensors is the mean of this many epochs with the best dev score."""
    checkpoint_minutes: float = setting(5.0, at_least(0))
    """Longest time without a checkpoint, in minutes; each epoch ends with one anyway."""
    alignment_alarm_step: int = setting(3000, at_least(0))
    """Warn when the attention does not run along the audio by this step; 0 never warns."""
    skip_limit: int = setting(20, at_least(1))
    """Stop after this many batches with a loss or gradient that is not finite."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: the large matrix products round what they read and write to bfloat16, which pays
    where the processor has instructions for it (``asr doctor``); all else stays float32."""
    threads: int = setting(0, THREADS)
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
class LMConfig(Settings):
    """A character language model and its training; ``asr lm train`` reads it."""

    seed: int = setting(1, SEED)
    """Initial weights, batches and dropout all follow from it."""
    epochs: int = setting(40, at_least(1))
    """Passes over the text; the one with the lowest dev perplexity is kept."""
    patience: int = setting(8, at_least(0))
    """Stop after this many epochs without a lower dev perplexity; 0 never stops early."""
    held_out: float = setting(0.05, below(1))
    """Share of the sentences that is kept apart to choose the epoch where there is no dev text."""
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
    """Search settings of ``asr decode`` and ``asr transcribe``."""

    beam: int = setting(8, between(1, 100000))
    """Hypotheses kept per utterance (K); 1 is greedy search."""
    nbest: int = setting(1, between(1, 100000))
    """Hypotheses returned per utterance."""
    ctc_weight: float = setting(0.3, FRACTION)
    """Share of the CTC prefix score in (1 - w) * attention + w * CTC; 0 leaves CTC out."""
    lm: str = ""
    """Language model file of `asr lm train`; empty: none."""
    lm_weight: float = setting(0.3, at_least(0))
    """Weight of the language model's log-probability (shallow fusion), where there is one."""
    word_lm: str = ""
    """Word n-gram: an ARPA file, as `asr lm ngram` and others write it, plain or .gz; empty: none.
    It guesses characters by looking ahead to the words that may follow."""
    lm_share: float = setting(0.5, below(1))
    """With lm and word_lm: share of lm in the probability of words that word_lm knows; it spells
    all others in any case."""
    oov_penalty: float = setting(0.0, at_least(0))
    """Taken from word_lm's log-probability of every word that it does not know."""
    hotwords: str = ""
    """File of words and phrases to favour, one a line, each with a tab and a weight or without;
    empty: none."""
    hotword_weight: float = setting(1.0, at_least(0))
    """What each character of a hot word without a weight of its own adds to the score; above 1.5
    hot words are also found where nobody says them."""
    length_bonus: float = setting(0.0, finite())
    """Added per character; makes up for the search's liking for short output."""
    coverage_weight: float = setting(0.0, at_least(0))
    """Reward per encoder step that received attention above coverage_threshold."""
    coverage_threshold: float = setting(0.5, at_least(0))
    """Attention that an encoder step must gather to count as covered."""
    eos_threshold: float = setting(0.0, at_least(0))
    """End a sentence only when its log-probability is at least this factor times the best
    other character's (1.5 in arXiv:1904.02619); 0 turns the check off."""
    end_margin: float = setting(10.0, at_least(0))
    """Stop once every open hypothesis trails the finished ones by this much; 0 goes on as
    long as bonuses could make up for it."""
    max_ratio: float = setting(1.0, more_than(0, 100))
    """Most characters per encoder step."""
    batch: int = setting(16, at_least(1))
    """Utterances decoded side by side."""


@dataclass(frozen=True)
class SegmentationConfig(Settings):
    """How ``asr transcribe`` cuts audio into pieces that a model can follow."""

    vad: Literal["silero", "fixed", "none"] = "silero"
    """silero: what a speech detector hears as speech, cut at pauses; fixed: everything, cut at a
    quiet place after 20 to 30 s; none: everything in one piece, up to 60 s."""
    threshold: float = setting(0.5, between(HYSTERESIS, 1))
    """Speech begins where its probability reaches this; it ends 0.15 below."""
    pause_s: float = setting(0.5, between(SHORTEST_PAUSE_S, 60))
    """A pause of this length ends a segment at once; the longer a segment gets, the shorter a
    pause will do."""
    padding_s: float = setting(0.3, between(0, 5))
    """Audio kept before and after speech, as far as its neighbours leave some."""
    longest_s: float = setting(15.0, between(2, 60))
    """Speech that goes on for so long is cut at its quietest place."""
