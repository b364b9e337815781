"""Checks before the first step: what would fail after hours is found in seconds."""

import itertools
import sys
from collections.abc import Sequence

from asr.audio.features import FeatureExtractor
from asr.config import TrainConfig
from asr.corpus.datadir import Utterance
from asr.corpus.overlap import same_audio, same_sentences
from asr.errors import InputError
from asr.model.fast.product import precision_in_use
from asr.text.chars import CharTokenizer
from asr.train.augment import noise_files

SHOWN = 20
MOST = 0.5  # of the dev set's sentences: from here on it is said that the training has them


def check_settings(config: TrainConfig) -> None:
    """Refuse settings that do not suit the data of this machine.

    Raises:
        InputError: noise is wanted of a folder that has none, or filters of features are empty.
    """
    if config.precision != precision_in_use():
        raise InputError(
            f"precision {config.precision}: products are in {precision_in_use()} in this process; "
            "train with `asr train`, or within asr.commands.machine.machine(threads, precision)"
        )
    extractor = FeatureExtractor(config.features)
    for warp in (1 - config.augment.vtln, 1 + config.augment.vtln):
        extractor.warped_bands(warp)
    if config.augment.noise_prob > 0 and config.augment.noise_dir:
        noise_files(config.augment.noise_dir)


def check_durations(utterances: Sequence[Utterance], directory: str) -> None:
    """Every utterance has a duration; raises InputError otherwise."""
    if not utterances:
        raise InputError(f"{directory}: no utterances; check the data preparation")
    missing = [u.id for u in utterances if u.duration_s is None]
    if missing:
        raise InputError(
            f"{directory}/utt2dur: {len(missing)} utterances have no duration, the first is "
            f"{missing[0]}; run `asr features {directory}`"
        )


def ctc_steps(tokens: Sequence[int]) -> int:
    """Fewest encoder steps for a transcript: one a character, and a blank between repeated ones."""
    return len(tokens) + sum(a == b for a, b in itertools.pairwise(tokens))


def check_fit(
    utterances: Sequence[Utterance],
    tokenizer: CharTokenizer,
    config: TrainConfig,
    directory: str,
    fastest: float,
) -> None:
    """Every transcript fits the encoder steps of its audio, at the fastest speed factor.

    Raises:
        InputError: one does not; the message lists them.
    """
    extractor = FeatureExtractor(config.features)
    misfits = []
    for utterance in utterances:
        samples = int((utterance.duration_s or 0) / fastest * config.features.sample_rate)
        frames = max(0, extractor.num_frames(samples))
        steps = config.model.encoder.output_steps(frames)
        needed = ctc_steps(tokenizer.encode(utterance.text or ""))
        if steps < max(1, needed):
            misfits.append(
                f"  {utterance.id}: {needed} characters, {frames} frames give {steps} encoder steps"
            )
    if misfits:
        rest = [f"  ... and {len(misfits) - SHOWN} more"] if len(misfits) > SHOWN else []
        raise InputError(
            f"{directory}: {len(misfits)} transcripts are longer than their audio allows (at speed "
            f"{fastest:g}):\n"
            + "\n".join(misfits[:SHOWN] + rest)
            + "\ncheck these transcripts and "
            "segment times and take the wrong ones out of text (then `asr data fix`), or reduce "
            "less in model.encoder.pyramid or layers"
        )


def check_characters(
    utterances: Sequence[Utterance], tokenizer: CharTokenizer, directory: str, *, strict: bool
) -> None:
    """Every character of the transcripts is known.

    Raises:
        InputError: one is not, and ``strict`` is set; otherwise a warning says so.
    """
    unknown: dict[str, str] = {}
    for utterance in utterances:
        text = tokenizer.normalize(utterance.text or "")
        for character, token in zip(text, tokenizer.encode(text), strict=True):
            if token == tokenizer.unk_id:
                unknown.setdefault(character, utterance.id)
    if not unknown:
        return
    listed = ", ".join(f"{char!r} (first in {where})" for char, where in sorted(unknown.items()))
    message = f"{directory}/text: characters that tokens.txt does not have: {listed}"
    if strict:
        raise InputError(f"{message}; run `asr chars {directory} -o .../tokens.txt` again")
    print(f"warning: {message}; they count as errors", file=sys.stderr)


def check_separation(train: Sequence[Utterance], dev: Sequence[Utterance]) -> None:
    """Training and dev data do not mix: no common utterance.

    A common speaker, the same audio under other ids, and mostly the same sentences are warnings.

    Raises:
        InputError: an utterance is in both.
    """
    both = {u.id for u in train} & {u.id for u in dev}
    if both:
        raise InputError(
            f"{len(both)} utterances are in the training and in the dev set, for example "
            f"{min(both)}; a score on them says nothing, take them out of one"
        )
    speakers = {u.speaker for u in train} & {u.speaker for u in dev}
    if speakers:
        print(
            f"warning: {len(speakers)} speakers are in the training and in the dev set, for "
            f"example {min(speakers)}; dev scores will be better than those of new speakers",
            file=sys.stderr,
        )
    _tell_same_audio(train, dev)
    _tell_same_sentences(train, dev)


def _tell_same_audio(train: Sequence[Utterance], dev: Sequence[Utterance]) -> None:
    same, left_out = same_audio(train, dev)
    if same:
        print(
            f"warning: {len(same)} of {len(dev)} utterances of the dev set have the same recording "
            f"as an utterance of the training set, for example {' and '.join(same[0])}; a score on "
            "them says nothing, take them out of one",
            file=sys.stderr,
        )
    if left_out:
        print(
            f"note: {left_out} recordings of the dev set were not compared with the training "
            "set's: too many have the same size",
            file=sys.stderr,
        )


def _tell_same_sentences(train: Sequence[Utterance], dev: Sequence[Utterance]) -> None:
    same = same_sentences(train, dev)
    if same >= MOST * len(dev):
        print(
            f"warning: {same} of {len(dev)} utterances of the dev set ({same / len(dev):.0%}) say "
            "sentences of the training set; dev scores will be better than those of new sentences "
            "(`asr score --seen` tells them apart, `asr data hold-out` makes sets without common "
            "ones)",
            file=sys.stderr,
        )
