"""Checks of settings and data before the first step."""

import math
from dataclasses import replace

import pytest

from asr.config import (
    AugmentConfig,
    FeatureConfig,
    LossConfig,
    TrainConfig,
)
from asr.config.read import from_dict
from asr.corpus.columns import Strings
from asr.corpus.datadir import DataDir
from asr.errors import InputError
from asr.text.tokenizer import CharTokenizer, ctc_steps
from asr.train import checks


def test_repeated_characters_need_a_blank_between_them():
    assert ctc_steps([5, 5, 6]) == 4


def test_a_transcript_longer_than_its_frames_is_named(tone_corpus):
    utterances = DataDir.load(tone_corpus / "train").utterances
    tokenizer = CharTokenizer.from_file(tone_corpus / "tokens.txt")
    checks.check_fit(utterances, tokenizer, TrainConfig(), "data/train", 1.0)
    long = [replace(utterances[0], text="ABC" * 20), *utterances[1:]]
    with pytest.raises(InputError, match=r"s1-00: \d+ frames give \d+ encoder steps, it needs 60"):
        checks.check_fit(long, tokenizer, TrainConfig(), "data/train", 1.0)


def test_faster_speech_has_fewer_encoder_steps(tone_corpus):
    utterance = DataDir.load(tone_corpus / "train").utterances[0]  # AB: 48 frames, 12 steps
    tokenizer = CharTokenizer.from_file(tone_corpus / "tokens.txt")
    crowded = [replace(utterance, text="ABC" * 4)]
    checks.check_fit(crowded, tokenizer, TrainConfig(), "data/train", 1.0)
    without = TrainConfig(loss=LossConfig(ctc_weight=0.0))
    checks.check_fit(crowded, tokenizer, without, "data/train", 1.25)
    with pytest.raises(InputError, match="38 frames give 10 encoder steps, it needs 12"):
        checks.check_fit(crowded, tokenizer, TrainConfig(), "data/train", 1.25)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("average", 0, "1 or more"),
        ("model.encoder.pyramid", [2, 0], "a number from 1 for each layer"),
        ("augment.speeds", [], "factors such as 0.9"),
        ("augment.vtln", 0.5, "0 to 0.4"),
        ("augment.noise_snr_db", [20.0, 5.0], "two numbers from -200 to 200, the lower one first"),
        ("loss.ctc_weight", 1.0, "0 or more, less than 1"),
        ("loss.label_smoothing", 1.0, "0 or more, less than 1"),
        ("optim.clip_norm", 0.0, "more than 0"),
        ("optim.learning_rate", math.nan, "more than 0"),
        ("batch.workers", -1, "0 or more"),
    ],
)
def test_values_outside_the_range_of_a_setting(name, value, expected):
    *sections, key = name.split(".")
    values = {key: value}
    for section in reversed(sections):
        values = {section: values}
    with pytest.raises(InputError, match=f"{name} = .*, expected {expected}"):
        from_dict(TrainConfig, values)


def test_filters_that_are_empty():
    features = FeatureConfig(mel_bins=500)
    with pytest.raises(InputError, match=r"features\.mel_bins = 500: some filters fall between"):
        checks.check_settings(TrainConfig(features=features))


def test_filters_that_are_empty_after_warping():
    narrow = TrainConfig(features=FeatureConfig(sample_rate=8000))
    checks.check_settings(replace(narrow, augment=AugmentConfig(vtln=0.1)))
    with pytest.raises(InputError, match=r"features\.mel_bins = 80: some filters fall between"):
        checks.check_settings(replace(narrow, augment=AugmentConfig(vtln=0.4)))


def test_consistency_needs_ctc():
    loss = LossConfig(consistency=0.2, ctc_weight=0.0)
    with pytest.raises(InputError, match=r"consistency = 0\.2, expected 0, because"):
        checks.check_settings(TrainConfig(loss=loss))


def test_noise_without_probability():
    with pytest.raises(InputError, match=r"adds no noise, because augment\.noise_prob"):
        checks.check_settings(TrainConfig(augment=AugmentConfig(noise_dir="noise")))


def test_noise_folder_without_audio(tmp_path):
    augment = AugmentConfig(noise_prob=0.1, noise_dir=str(tmp_path))
    with pytest.raises(InputError, match="no audio file there"):
        checks.check_settings(TrainConfig(augment=augment))


def test_missing_durations(tone_corpus):
    utterances = DataDir.load(tone_corpus / "train").utterances
    with pytest.raises(InputError, match="asr features data/train"):
        checks.check_durations([replace(utterances[0], duration_s=None)], "data/train")


def test_unknown_characters(tone_corpus, capsys):
    utterances = [replace(DataDir.load(tone_corpus / "dev").utterances[0], text="AXB")]
    tokenizer = CharTokenizer.from_file(tone_corpus / "tokens.txt")
    with pytest.raises(InputError, match=r"'X' \(first in s2-00\)"):
        checks.check_characters(utterances, tokenizer, "data/train", strict=True)
    checks.check_characters(utterances, tokenizer, "data/dev", strict=False)
    assert "'X'" in capsys.readouterr().err


def test_training_and_dev_data_must_not_mix(tone_corpus, capsys):
    train = DataDir.load(tone_corpus / "train").utterances
    dev = DataDir.load(tone_corpus / "dev").utterances
    with pytest.raises(InputError, match="s1-00"):
        checks.check_separation(train, train)
    checks.check_separation(train, [replace(dev[0], speaker="s1")])
    assert "1 speaker," in capsys.readouterr().err


def test_recordings_and_sentences_under_other_ids_are_reported(tone_corpus, capsys):
    train = DataDir.load(tone_corpus / "train").utterances
    renamed = [replace(u, id=f"d-{u.id}", speaker="d") for u in train]
    apart = [replace(u, wav=f"{u.wav}.none", text=f"NEW {u.id}") for u in renamed]
    checks.check_separation(train, apart)
    assert capsys.readouterr().err == ""
    checks.check_separation(train, [*renamed[:1], *apart[1:]])
    err = capsys.readouterr().err
    assert f"1 of {len(train)} utterances of the dev set have the same recording" in err
    assert f"for example d-{train[0].id} and {train[0].id}" in err
    assert "sentences" not in err
    checks.check_separation(train, [replace(u, wav=f"{u.wav}.none") for u in renamed])
    assert "(100%) say sentences of the training set" in capsys.readouterr().err


def test_steps_of_ctc_are_counted_alike_for_all_texts_at_once():
    texts = ["AAB", "", "A  A", "E\u0301E\u0301", "\u00c9\u00c9A", "A\tA", "Z", "\ufb01"]
    for symbols in ("ABE \u00c9", "ABE", "AB \u0301EFI"):
        tokenizer = CharTokenizer.from_texts([symbols])
        for some in (texts, texts[:3], texts[4:5]):
            found = list(checks._ctc_steps(Strings.of(some), tokenizer))
            assert found == [ctc_steps(tokenizer.encode(text)) for text in some]
            assert not tokenizer.is_plain(set("".join(some))) or not any(
                map(tokenizer.unknown, some)
            )
