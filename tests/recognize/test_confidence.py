"""Confidence: fitted, cross-validated, written into the model, and shown."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import soundfile

import asr
from asr.commands.calibrate import main as calibrate_main
from asr.commands.transcribe import main
from asr.config import DecodeConfig
from asr.corpus.datadir import Utterance
from asr.errors import InputError
from asr.recognize import calibrate
from asr.recognize import flags as diagnose
from asr.recognize.confidence import (
    Calibration,
    cross_validate,
    fit,
    text_predictors,
    word_predictors,
)
from asr.recognize.plausibility import Vocabulary, plausibility, plausibility_threshold
from asr.recognize.transcript import Segment
from asr.search.alignment import CTCAlignment
from asr.search.hypothesis import Hypothesis
from asr.store.model_file import read_model

SHORT = DecodeConfig(beam=2, max_ratio=0.2)  # a model of random weights knows no end
SURE = {"bias": 9.0, "attention": 0.0, "ctc": 0.0}
UNSURE = {"bias": -9.0, "attention": 0.0, "ctc": 0.0}


def texts(count, seed=0):
    """Predictors of utterances that are mostly correct if the first one is above -2."""
    generator = np.random.default_rng(seed)
    predictors = -generator.exponential((2.0, 1.0), (count, 2))
    right = predictors[:, 0] + generator.logistic(0, 0.5, count) > -2
    return predictors, right.astype(float)


def test_predictors_by_hand():
    segment = Segment(0, 1, "AB", -5.0, {"decoder": -1.5, "ctc": -6.0}, (), (3, 4))
    assert text_predictors(segment) == (-1.5, -2.0)  # two characters and the end
    assert Calibration(1.5, 1.0, 0.0)((-1.5, -2.0)) == 0.5
    assert Calibration(0.0, 0.0, 0.5)((-1.5, -2.0)) == pytest.approx(1 / (1 + math.e))


def test_a_fit_recovers_the_coefficients_of_the_data():
    predictors, right = texts(4000)
    found = fit(predictors, right)  # P(right) = sigmoid((x + 2) / 0.5)
    assert found.attention == pytest.approx(2.0, rel=0.15)
    assert found.bias == pytest.approx(4.0, rel=0.15)
    assert found.ctc < 0.2


def test_no_slope_is_negative():
    predictors, right = texts(100)
    found = fit(-predictors, right)
    assert found.attention == 0 and found.ctc >= 0


def test_separable_texts_keep_the_fit_finite():
    found = fit(np.array([[-1.0, -1.0]] * 5 + [[-9.0, -2.0]] * 5), np.array([1.0] * 5 + [0.0] * 5))
    assert found((-1.0, -1.0)) > 0.8 > 0.2 > found((-9.0, -2.0))
    assert found((-400.0, -400.0)) < 1e-6


def test_no_utterance_is_scored_by_a_fit_to_its_own_speaker():
    predictors, right = texts(60)
    speakers = [f"s{i % 6}" for i in range(60)]
    before = cross_validate(predictors, right, speakers)
    mine = np.array([s == "s1" for s in speakers])
    after = cross_validate(predictors, np.where(mine, 1 - right, right), speakers)
    np.testing.assert_array_equal(after[mine], before[mine])
    assert (after[~mine] != before[~mine]).any()


def test_with_one_speaker_no_utterance_is_scored_by_a_fit_to_itself():
    predictors, right = texts(60)
    names = [f"u{i:02d}" for i in range(60)]  # the groups where there is one speaker
    before = cross_validate(predictors, right, names)
    mine = np.arange(60) % 5 == 1  # a fold
    after = cross_validate(predictors, np.where(mine, 1 - right, right), names)
    np.testing.assert_array_equal(after[mine], before[mine])
    assert (after[~mine] != before[~mine]).any()


def test_plausibility_by_hand():
    segment = Segment(0, 1, "AB", -5.0, {"decoder": -1.5, "ctc": -6.0}, (), (3, 4))
    assert plausibility(segment) == pytest.approx(
        -7.5 / 7
    )  # two characters, the end, and four more
    t = 2.131847  # of Student's table for 5 % and four degrees of freedom
    bound = -2 - t * (1 + 1 / 5) ** 0.5 * 0.5**0.5
    assert plausibility_threshold([-1.0, -2.0, -3.0, -2.0, -2.0]) == pytest.approx(bound)
    assert plausibility_threshold([-1.0, -2.0, -3.0, -2.0]) is None  # too few


def test_useless_texts_lower_the_threshold():
    right, useless = [-1.0, -2.0, -3.0, -2.0, -2.0], np.array([-8.0, -7.0, -6.0, -5.0, -4.0])
    bound = plausibility_threshold(right)
    below = 0.2 * useless[3] + 0.8 * useless[4] - 1  # a fifth of the way from the best to the next
    assert bound > below
    assert plausibility_threshold(right, useless - 1) == pytest.approx((bound + below) / 2)
    assert plausibility_threshold(right, useless + 2) == pytest.approx(
        bound
    )  # overlap: the bound of the right ones
    assert plausibility_threshold(right, useless[:4] - 9) == bound  # too few to tell


def scored(speaker, plausibility, right, text="A"):
    """An utterance with a text of a plausibility; a text other than A is doubtful by all rules."""
    flags = () if text != "A" else ("doubtful",)
    segment = Segment(0, 1, text, 0.0, {"decoder": 5 * plausibility}, flags, ())
    utterance = Utterance("u", speaker, "u", "u.wav", 0.0, None, "A", 1.0)
    return calibrate.ScoredUtterance(utterance, segment, right, not right, (right,))


def test_flags_are_cross_validated():
    """Correct texts of a speaker who mumbles are doubtful by the other speakers' threshold."""
    clear = [scored("s1", plausibility, True) for plausibility in (-0.3, -0.4, -0.5, -0.6, -0.7)]
    mumbled = [scored("s2", plausibility, True) for plausibility in (-2.0, -2.1, -2.0, -2.1, -2.0)]
    wrong = [scored("s2", -9.0, False)]
    everything = clear + mumbled + wrong
    found = calibrate.cross_validate_flags(everything, None)
    assert found.tolist() == [False] * 5 + [True] * 6
    one = clear[0].utterance  # of the only speaker
    alone = [replace(j, utterance=replace(one, id=f"u{i}")) for i, j in enumerate(everything)]
    found = calibrate.cross_validate_flags(alone, None)  # nobody else: the mumbling counts
    assert found.tolist() == [False] * 10 + [True]


def test_unknown_words_make_a_text_doubtful():
    """All texts are A, but for one of the last speaker, whose other text is as plausible."""
    right = [scored(f"s{i % 3}", -0.5 - 0.1 * (i % 5), True) for i in range(9)]
    both = [*right, scored("s3", -0.7, True), scored("s3", -0.7, False, text="B")]
    assert calibrate.cross_validate_flags(both, frozenset("A")).tolist() == [False] * 10 + [True]
    assert not calibrate.cross_validate_flags(both, frozenset("AB")).any()
    found = calibrate.estimate_plausibility(both, frozenset("A"))
    assert found.vocabulary.oov_rate == 1 / 13


def test_useless_texts_count_in_a_calibration():
    right = [scored("s1", plausibility, True) for plausibility in (-0.3, -0.4, -0.5, -0.6, -0.7)]
    useless = [scored("s2", plausibility, False) for plausibility in (-3.0, -3.5, -4.0, -4.5, -5.0)]
    found = calibrate.estimate_plausibility([*right, *useless], None)

    assert found.threshold == pytest.approx(
        plausibility_threshold(
            *([plausibility(j.segment) for j in each] for each in (right, useless))
        )
    )
    assert found.threshold < calibrate.estimate_plausibility(right, None).threshold


@pytest.mark.parametrize("strict", [False, True])
def test_plausible_texts_are_not_doubtful(save, audio, monkeypatch, strict):
    """A text is doubtful if the rule for all models and the model's own threshold agree."""
    monkeypatch.setattr(diagnose, "MIN_LOG_PROB", 0.0 if strict else -1e3)

    def is_flagged(**info):
        recognizer = asr.load(save(**info), "cpu", DecodeConfig(beam=2, length_bonus=5.0))
        return "doubtful" in recognizer.transcribe(audio / "a.wav").flags

    assert is_flagged() == is_flagged(confidence=SURE) == strict
    much, little = {"least": 0.0, "oov_rate": 0.5}, {"least": -1e3, "oov_rate": 0.5}
    assert is_flagged(confidence={**SURE, "credit": much}) == strict
    assert not is_flagged(confidence={**SURE, "credit": little})
    assert not is_flagged(credit=little)  # as a training leaves it
    assert is_flagged(credit=much) == strict
    assert is_flagged(credit=little, confidence={**SURE, "credit": much}) == strict
    assert is_flagged(credit=much, vocabulary=[])  # all of its words are unknown


@pytest.mark.parametrize(
    "credit",
    ["x", {}, {"least": -1.0}]
    + [{"least": least, "oov_rate": 0.1} for least in ("x", None, math.nan)]
    + [{"least": -1.0, "oov_rate": rate} for rate in ("x", None, 0.0, 1.0, math.nan)],
)
def test_a_damaged_threshold(save, credit):
    for info in ({"credit": credit}, {"confidence": {**SURE, "credit": credit}}):
        with pytest.raises(InputError, match="run `asr calibrate` again"):
            asr.load(save(**info), "cpu")


@pytest.mark.parametrize("words", ["ONE TWO", [1], {"ONE": 1}])
def test_a_damaged_vocabulary(save, words):
    with pytest.raises(InputError, match="its vocabulary is not a list of words"):
        asr.load(save(credit={"least": -1.0, "oov_rate": 0.1}, vocabulary=words), "cpu")


def test_words_of_the_search_are_known(save, audio, tmp_path):
    hot, arpa = tmp_path / "hot.txt", tmp_path / "words.arpa"
    hot.write_text("BAC AB\n")
    arpa.write_text("\\data\\\nngram 1=3\n\n\\1-grams:\n-1\t<s>\n-1\t</s>\n-1\tCAB\n\n\\end\\\n")
    model = save(credit={"least": -1.0, "oov_rate": 0.1}, vocabulary=["A"])

    def known(**lists):
        loaded = asr.load(model, "cpu", DecodeConfig(**lists)).utterance_recognizer.plausibility
        return loaded.vocabulary.words

    assert known() == {"A"}
    assert known(hotwords=str(hot)) == {"A", "BAC", "AB"}
    assert known(word_lm=str(arpa)) >= {"A", "CAB"}


def test_models_without_coefficients_have_no_confidence(model):
    assert asr.load(model, "cpu").utterance_recognizer.calibration is None


@pytest.mark.parametrize(
    "values", [{"bias": 1}, [1, 2, 3], {**SURE, "ctc": "x"}, {**SURE, "bias": math.nan}]
)
def test_damaged_coefficients(save, values):
    with pytest.raises(InputError, match="run `asr calibrate` again"):
        asr.load(save(confidence=values), "cpu")


def test_low_confidence_is_flagged(save, audio, capsys):
    file = str(audio / "a.wav")
    assert main([file, "--model", save(confidence=UNSURE), "-f", "json"]) == 0
    out, err = capsys.readouterr()
    value = json.loads(out)
    assert value["confidence"] == value["segments"][0]["confidence"] == 0.0001
    assert "low-confidence" in value["flags"] and "low-confidence" in value["segments"][0]["flags"]
    assert "flagged: " in err and "low-confidence (0.00)" in err
    main([file, "--model", save(confidence=SURE), "-f", "json"])
    out, err = capsys.readouterr()
    assert json.loads(out)["confidence"] == 0.9999 and "low-confidence" not in out + err


def test_the_threshold_is_a_setting(save, audio):
    model = save(confidence={**SURE, "bias": 0.0})  # 0.5
    for threshold, marked in ((0.5, False), (0.51, True)):
        recognizer = asr.load(model, "cpu", DecodeConfig(beam=2), min_confidence=threshold)
        flags = recognizer.transcribe(audio / "a.wav").flags
        assert ("low-confidence" in flags) == marked
    with pytest.raises(InputError, match=r"min-confidence: 1\.5, expected"):
        main([str(audio / "a.wav"), "--model", model, "--min-confidence", "1.5"])


def test_without_ctc_a_note_tells_that_there_is_no_confidence(save, audio, capsys):
    file, model = str(audio / "a.wav"), save(confidence=SURE)
    main([file, "--model", model, "--ctc_weight", "0", "-f", "json"])
    out, err = capsys.readouterr()
    assert json.loads(out)["confidence"] is None
    assert "no confidences, because they need CTC" in err


@pytest.fixture
def babble(model, tmp_path):
    """A data directory of noise; two of three transcripts are the model's own output."""
    folder = tmp_path / "data"
    folder.mkdir()
    generator = np.random.default_rng(0)
    lines = {"wav.scp": [], "text": [], "utt2spk": [], "spk2utt": []}
    for speaker in ("s1", "s2", "s3"):
        names = [f"{speaker}-{i}" for i in range(6)]
        for i, name in enumerate(names):
            path = folder / f"{name}.wav"
            soundfile.write(path, generator.normal(0, 0.1, 6000 + 1000 * i), 16000)
            heard = asr.load(model, "cpu", SHORT).transcribe(path).text
            lines["wav.scp"].append(f"{name} {path}")
            lines["text"].append(f"{name} {heard if i % 3 else 'WRONG'}")
            lines["utt2spk"].append(f"{name} {speaker}")
        lines["spk2utt"].append(f"{speaker} {' '.join(names)}")
    for name, table in lines.items():
        (folder / name).write_text("".join(line + "\n" for line in table))
    return folder


OPTIONS = ("--beam", "2", "--max_ratio", "0.2", "--device", "cpu")


def run(model, data, target):
    return calibrate_main([model, str(data), "-o", str(target), *OPTIONS])


def test_calibrate_writes_a_copy_of_the_model(model, babble, tmp_path, capsys):
    target = tmp_path / "sure.safetensors"
    assert run(model, babble, target) == 0
    out = capsys.readouterr().out
    assert "18 utterances" in out and "12 of them right; 0 left out" in out
    (_, before), (after, weights) = read_model(model), read_model(target)
    for name, value in before.items():
        assert np.array_equal(value, weights[name])
    assert after.info["confidence"]["fitted_on"]["correct"] == 12
    assert after.info["confidence"]["credit"]["least"] < 0
    assert "A" in after.info["sounds"]["characters"]
    assert (tmp_path / "sure.reliability.png").read_bytes()[1:4] == b"PNG"
    found = asr.load(target, "cpu", SHORT).transcribe(babble / "s1-0.wav").confidence
    assert found is not None and 0 < found < 1


def test_a_second_calibration_gives_the_same_result(model, babble, tmp_path):
    once, twice = tmp_path / "once.safetensors", tmp_path / "twice.safetensors"
    run(model, babble, once)
    run(str(once), babble, twice)
    assert read_model(twice)[0].info["confidence"] == read_model(once)[0].info["confidence"]


def test_words_have_their_own_confidence(model, babble, tmp_path):
    run(model, babble, tmp_path / "sure.safetensors")
    info = read_model(tmp_path / "sure.safetensors")[0].info["confidence"]
    assert info["fitted_on"]["words"] >= 18 and 0 <= info["fitted_on"]["words_error"] <= 1
    recognizer = asr.load(tmp_path / "sure.safetensors", "cpu", SHORT)
    words = recognizer.transcribe(babble / "s1-0.wav").words
    calibration = Calibration.from_info({"confidence": info}, "", "words")
    assert words and all(w.confidence == calibration(w.predictors) for w in words)
    value = recognizer.transcribe(babble / "s1-0.wav").to_dict()["segments"][0]["words"][0]
    assert value["probability"] == round(words[0].confidence, 4)


def test_predictors_of_words_by_hand():
    hypothesis = Hypothesis(
        (2, 3, 1, 2), -3.0, {"decoder": -3.0}, None, True, (-0.1, -0.2, -0.4, -0.8, -1.5)
    )
    heard = np.array([-1.0, -2.0, -0.5, -0.25])
    alignment = CTCAlignment(np.zeros(8), np.arange(4.0), heard, -4.0, np.zeros(8))
    assert word_predictors(hypothesis, alignment, [(0, 2), (3, 4)]) == [
        (pytest.approx(-0.7), -2.0),  # two characters and the space; the worse of two
        (pytest.approx(-2.3), -0.25),  # one character and the end
    ]


@pytest.mark.parametrize("words", [{"bias": 1}, "x", {**SURE, "ctc": math.inf}])
def test_damaged_coefficients_of_words(save, words):
    with pytest.raises(InputError, match="run `asr calibrate` again"):
        asr.load(save(confidence={**SURE, "words": words}), "cpu")


def test_words_and_uselessness_by_hand():
    found = calibrate._score(
        Utterance("u", "s", "u", "", 0.0, None, "A  B C", 1.0),
        Segment(0, 1, "A X", -5.0, {"decoder": -1.5, "ctc": -6.0}, (), (3, 4)),
    )
    assert found.words == (True, False) and found.useless and not found.correct


def test_decomposed_transcripts_are_those_of_composed_ones():
    utterance = Utterance("u", "s", "u", "", 0.0, None, "E\u0301", 1.0)
    segment = Segment(0, 1, "\u00c9", -5.0, {"decoder": -1.5, "ctc": -6.0}, (), (3, 4))
    assert calibrate._score(utterance, segment).correct
    assert Vocabulary.from_texts(frozenset({"\u00c9"}), ["E\u0301"]).oov_rate == 1 / 3


def test_unreadable_and_long_recordings_are_left_out(model, babble, tmp_path, capsys):
    (babble / "s1-1.wav").write_text("this is not audio")
    soundfile.write(babble / "s1-2.wav", np.zeros(31 * 16000), 16000)
    assert run(model, babble, tmp_path / "sure.safetensors") == 0
    out, err = capsys.readouterr()
    assert "16 utterances" in out and "2 left out" in out
    assert "left out: s1-1: " in err and "left out: s1-2: 31 s long, expected at most 30 s" in err


def test_too_few_correct_texts_and_no_ctc_are_refused(model, babble, tmp_path):
    with pytest.raises(InputError, match="confidence needs its score"):
        calibrate_main([model, str(babble), "-o", str(tmp_path / "x"), "--ctc_weight", "0"])
    text = (babble / "text").read_text().splitlines()
    (babble / "text").write_text("".join(f"{line.split()[0]} WRONG\n" for line in text))
    with pytest.raises(InputError, match=r"0 texts are correct and 18 are wrong, .* easier"):
        run(model, babble, tmp_path / "x")
    assert not (tmp_path / "x").exists()
