"""Checks of settings and data before the first step."""

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from asr.arrays import FloatArray, IntArray
from asr.audio.features import FeatureExtractor
from asr.config import TrainConfig
from asr.corpus.columns import Strings
from asr.corpus.datadir import Utterance, Utterances
from asr.corpus.overlap import same_audio, same_sentences
from asr.errors import InputError, counted
from asr.model.fast.product import precision_in_use
from asr.terminal import note, warn
from asr.text.characters import clean
from asr.text.tokenizer import CharTokenizer, ctc_steps
from asr.train.augment import noise_files

SHOWN = 20  # utterances in a message
SAME_SENTENCES = 0.5  # share of the dev set's sentences in the training set that is reported


def check_settings(config: TrainConfig) -> None:
    """Check settings that depend on this process and on files.

    Raises:
        InputError: the precision is not that of the process, the noise folder has no audio, filters
            of the filterbank are empty, or a setting has no effect without CTC or noise.
    """
    if config.loss.ctc_weight == 0 and config.loss.consistency > 0:
        found = f"loss.consistency = {config.loss.consistency:g}"
        raise InputError(f"{found}, expected 0, because loss.ctc_weight is 0")
    if config.augment.noise_dir and config.augment.noise_prob == 0:
        found = f"augment.noise_dir = {config.augment.noise_dir}"
        raise InputError(
            f"{found} adds no noise, because augment.noise_prob is 0; set both or none"
        )
    if config.precision not in ("auto", precision_in_use()):
        raise InputError(
            f"precision {config.precision}: products are in {precision_in_use()} in this process; "
            "train with `asr train`, or within asr.commands.machine.machine(threads, precision)"
        )
    extractor = FeatureExtractor(config.features)
    for warp in (1 - config.augment.vtln, 1 + config.augment.vtln):
        try:
            extractor.warped_bands(warp)
        except InputError as error:
            raise InputError(f"augment.vtln = {config.augment.vtln:g}: {error}") from error
    if config.augment.noise_prob > 0 and config.augment.noise_dir:
        noise_files(config.augment.noise_dir)


def check_durations(utterances: Sequence[Utterance], directory: str) -> None:
    """Raise InputError if an utterance has no duration."""
    if not utterances:
        raise InputError(f"{directory}: no utterances; check the data preparation")
    missing = np.flatnonzero(np.isnan(Utterances.of(utterances).durations_s))
    if len(missing):
        raise InputError(
            f"{directory}/utt2dur: no duration for {counted(len(missing), 'utterance')}, such as "
            f"{utterances[int(missing[0])].id}; run `asr features {directory} --config FILE` with "
            "the configuration of the training"
        )


def check_fit(
    utterances: Sequence[Utterance],
    tokenizer: CharTokenizer,
    config: TrainConfig,
    directory: str,
    speed: float,
) -> None:
    """Check that audio has enough encoder steps: for CTC those of the transcript, else one.

    Args:
        utterances: utterances with text and durations.
        tokenizer: characters.
        config: configuration of the training.
        directory: data directory, for the message.
        speed: lowest speed factor of the augmentation.

    Raises:
        InputError: a transcript is too long; the message lists them.
    """
    columns = Utterances.of(utterances)
    needed = np.array([*_ctc_steps(columns.transcripts, tokenizer)])
    found = too_long(needed, columns.durations_s, config, speed)
    report_misfits([f"  {columns.ids[i]}: {why}" for i, why in found], directory, speed)


def _ctc_steps(texts: Strings, tokenizer: CharTokenizer) -> Iterator[int]:
    """Yield the fewest steps of a CTC path for each text."""
    for _, lines in texts.blocks():
        if tokenizer.is_plain(set(lines) - {"\n"}) and (lines.isascii() or clean(lines) == lines):
            codes = np.frombuffer(lines.encode("utf-32-le"), np.uint32)
            same = np.append(False, (codes[1:] == codes[:-1]) & (codes[1:] != ord("\n")))
            ends = np.flatnonzero(codes == ord("\n"))
            characters = np.diff(ends, prepend=-1) - 1
            yield from (characters + np.diff(np.cumsum(same)[ends], prepend=0)).tolist()
        else:
            yield from (ctc_steps(tokenizer.encode(text)) for text in lines[:-1].split("\n"))


def too_long(
    needed: IntArray, durations_s: FloatArray, config: TrainConfig, speed: float
) -> Iterator[tuple[int, str]]:
    """Yield the place of each transcript that is too long for its audio, and the reason.

    Args:
        needed: fewest steps of a CTC path for each transcript.
        durations_s: of their audio; NaN counts as 0.
        config: configuration of the training.
        speed: lowest speed factor of the augmentation.
    """
    samples = np.nan_to_num(durations_s) / speed * config.features.sample_rate
    frames = FeatureExtractor(config.features).num_frames(samples.astype(int))
    steps = config.model.encoder.output_steps(frames)
    needed = np.maximum(1, needed * (config.loss.ctc_weight > 0))
    for i in np.flatnonzero(steps < needed).tolist():
        yield i, f"{frames[i]} frames give {steps[i]} encoder steps, it needs {needed[i]}"


def report_misfits(misfits: list[str], where: str, speed: float) -> None:
    """Raise InputError if transcripts are too long for their audio."""
    if misfits:
        rest = [f"  ... and {len(misfits) - SHOWN} more"] if len(misfits) > SHOWN else []
        raise InputError(
            f"{where}: the audio is too short for {counted(len(misfits), 'transcript')} (at speed "
            f"{speed:g}):\n"
            + "\n".join(misfits[:SHOWN] + rest)
            + "\ncheck these transcripts and segment times and take the wrong ones out of text "
            "(then `asr data fix`), or reduce less in model.encoder.pyramid or layers"
        )


def check_characters(
    utterances: Sequence[Utterance], tokenizer: CharTokenizer, directory: str, *, strict: bool
) -> None:
    """Check that every character of the transcripts has a token; warn if one does not.

    Raises:
        InputError: a character is missing, and ``strict`` is set.
    """
    columns, unknown = Utterances.of(utterances), dict[str, str]()
    for first, lines in columns.transcripts.blocks():
        if tokenizer.is_plain(set(lines) - {"\n"}):
            continue
        for index, text in enumerate(lines[:-1].split("\n"), first):
            for character in tokenizer.unknown(text):
                unknown.setdefault(character, columns.ids[index])
    report_unknown(unknown, f"{directory}/text", strict=strict)


def report_unknown(unknown: Mapping[str, str], where: str, *, strict: bool) -> None:
    """Report characters without a token, with an utterance of each.

    Raises:
        InputError: there are some, and ``strict`` is set.
    """
    if not unknown:
        return
    listed = ", ".join(f"{char!r} (first in {name})" for char, name in sorted(unknown.items()))
    message = f"{where}: characters without a token: {listed}"
    if strict:
        directory = where.removesuffix("/text") if where.endswith("/text") else "DIR"
        raise InputError(
            f"{message}; import the transcripts with `--normalize librispeech` if capitals are "
            f"known, or run `asr chars {directory} -o tokens.txt`, and train with --tokens"
        )
    warn(f"{message}; they count as errors")


def check_separation(train: Sequence[Utterance], dev: Sequence[Utterance]) -> None:
    """Check that training and dev set have no utterance in common.

    Common speakers, the same audio under other ids, and mostly the same sentences cause warnings.

    Raises:
        InputError: an utterance is in both.
    """
    theirs, ours = Utterances.of(train), Utterances.of(dev)
    report_common_ids(set(ours.ids).intersection(theirs.ids))
    warn_of_speakers(set(ours.speakers.names).intersection(theirs.speakers.names))
    _warn_of_same_audio(theirs, ours)
    warn_of_sentences(same_sentences(theirs, ours), len(ours))


def report_common_ids(both: Collection[str]) -> None:
    """Raise InputError if utterances are in the training and in the dev set."""
    if both:
        raise InputError(
            f"the training and the dev set share {counted(len(both), 'utterance')}, for example "
            f"{min(both)}; take them out of one set, since a score on them means nothing"
        )


def warn_of_speakers(speakers: Collection[str]) -> None:
    """Warn if speakers are in the training and in the dev set."""
    if speakers:
        warn(
            f"the training and the dev set share {counted(len(speakers), 'speaker')}, for example "
            f"{min(speakers)}; dev scores will be better than those of new speakers"
        )


def _warn_of_same_audio(train: Sequence[Utterance], dev: Sequence[Utterance]) -> None:
    same, skipped = same_audio(train, dev)
    if same:
        warn(
            f"{len(same)} of {len(dev)} utterances of the dev set have the same recording as an "
            f"utterance of the training set, for example {' and '.join(same[0])}; take them out of "
            "one set, since a score on them means nothing"
        )
    if skipped:
        note(
            f"note: {skipped} recordings of the dev set were not compared with the training set's: "
            "too many have the same size"
        )


def warn_of_sentences(same: int, count: int) -> None:
    """Warn if many of the sentences of the dev set are in the training set."""
    if same >= SAME_SENTENCES * count:
        warn(
            f"{same} of {count} utterances of the dev set ({same / count:.0%}) say sentences "
            "of the training set; dev scores will be better than those of new sentences (`asr "
            "score --seen` scores them apart, `asr data hold-out` makes sets without common "
            "sentences)"
        )
