"""Load models with their runtime."""

from pathlib import Path

import torch

from asr.config import DecodeConfig, SegmentationConfig
from asr.explain.explainer import Explainer
from asr.lm.lookahead import load_word_lm
from asr.lm.protocol import LanguageModel
from asr.model import vad
from asr.model.char_lm import CharLM
from asr.model.ensemble import Ensemble
from asr.model.machine import pick_device
from asr.model.runtime import TorchModel
from asr.model.weights import fill, make_network
from asr.recognize.confidence import MIN_CONFIDENCE
from asr.recognize.utterances import Scorers, UtteranceRecognizer
from asr.search.hotwords import load_hotwords
from asr.search.protocol import Model
from asr.store.find import default_model
from asr.store.model_file import Header, read_lm, read_model
from asr.store.weights import Weights, networks_of
from asr.text.tokenizer import CharTokenizer


def load(
    path: str | Path | None = None,
    device: str = "auto",
    config: DecodeConfig | None = None,
    min_confidence: float = MIN_CONFIDENCE,
    segmentation: SegmentationConfig | None = None,
) -> Explainer:
    """Load a recogniser.

    Example:
        >>> import asr
        >>> recognizer = asr.load("exp/las")
        >>> transcript = recognizer.transcribe("talk.wav")
        >>> text = transcript.text
        >>> for segment in transcript.segments:
        ...     print(f"{segment.start_s:.1f} to {segment.end_s:.1f} s")
        0.0 to 2.4 s

    Args:
        path: folder of a training, a model file, or the name of a bundled model; by default
            the model that comes with the package.
        device: auto, cpu, cuda or cuda:N.
        config: search settings; by default those in the model file (``asr export --search``), or
            a beam of 8 with CTC.
        min_confidence: segments with a lower confidence get the flag ``low-confidence``.
        segmentation: settings of the segmentation; by default audio is cut at pauses.

    Raises:
        InputError: the model does not exist or is damaged, or a setting is out of range.
    """
    utterances = load_for_utterances(path, device, config, min_confidence)
    return Explainer(utterances, segmentation, vad.SileroDetector)


def load_for_utterances(
    path: str | Path | None = None,
    device: str = "auto",
    config: DecodeConfig | None = None,
    min_confidence: float = MIN_CONFIDENCE,
) -> UtteranceRecognizer:
    """Load a recogniser of utterances that need no segmentation; see :func:`load`."""
    where = pick_device(device)
    header, weights = read_model(path or default_model())
    model = make_model(header, weights, where)
    config = config or DecodeConfig(**header.search)
    tokenizer, hotwords = header.tokenizer, None
    if config.hotwords:
        hotwords = load_hotwords(config.hotwords, config.hotword_weight, tokenizer, where)
    scorers = Scorers(open_lm(config, tokenizer, where), hotwords)
    return UtteranceRecognizer(header, model, config, scorers, min_confidence)


def make_model(header: Header, weights: Weights, device: str | torch.device = "cpu") -> Model:
    """Build the network of a model file, or its ensemble of networks, in evaluation mode.

    Raises:
        InputError: the weights do not fit the settings.
    """
    networks = [make_network(header, each).to(device).eval() for each in networks_of(weights)]
    models = [TorchModel(network, has_ctc=header.has_ctc) for network in networks]
    return models[0] if len(models) == 1 else Ensemble(models)


def open_lm(
    config: DecodeConfig, tokenizer: CharTokenizer, device: str | torch.device = "cpu"
) -> LanguageModel | None:
    """Open the language model of search settings; return None without one or at weight 0.

    Args:
        config: search settings.
        tokenizer: characters of the recogniser.
        device: device of the language model.

    Raises:
        InputError: a file is missing or damaged, or was made for other characters.
    """
    if config.lm_weight == 0 or not (config.lm or config.word_lm):
        return None
    characters = load_lm(config.lm, tokenizer, device) if config.lm else None
    if not config.word_lm:
        return characters
    share = config.lm_share if characters is not None else 0.0
    return load_word_lm(config.word_lm, tokenizer, characters, config.oov_penalty, share, device)


def load_lm(
    path: str | Path, tokenizer: CharTokenizer, device: str | torch.device = "cpu"
) -> CharLM:
    """Load a character language model; see :func:`asr.store.model_file.read_lm`."""
    config, weights = read_lm(path, tokenizer)
    return fill(CharLM(config, len(tokenizer)), weights, path).to(device).eval()
