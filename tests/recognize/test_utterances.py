"""Segments: words with times, the fallback search, and --strict."""

import json

import numpy as np
import pytest

import asr
from asr.commands.transcribe import main
from asr.config import DecodeConfig
from asr.recognize import utterances
from asr.recognize.refine import CharacterGaussians
from asr.recognize.utterances import Chunk


@pytest.fixture
def flagged(monkeypatch):
    """Make the flags of texts depend on the beam of the search, and count the searches."""
    searches, original, of = [], utterances.search, utterances.flags

    def counted(model, encoded, config, lm, hotwords):
        searches.append((config.beam, config.coverage_weight, len(encoded.steps)))
        return original(model, encoded, config, lm, hotwords)

    def set_flags(flags):
        """Flags of the texts by the beam they come from."""

        def by_beam(hypothesis, alignment):
            return flags.get(searches[-1][0], of(hypothesis, alignment))

        monkeypatch.setattr(utterances, "flags", by_beam)
        return searches

    monkeypatch.setattr(utterances, "search", counted)
    return set_flags


def heard(model, audio):
    config = DecodeConfig(beam=2, max_ratio=0.3)
    return asr.load(model, "cpu", config).transcribe(audio / "a.wav").segments[0]


def test_a_failed_search_is_repeated_with_the_fallback(model, audio, flagged):
    searches = flagged({2: ("loop",), 4: ()})
    assert heard(model, audio).flags == ()
    assert searches == [(2, 0.0, 1), (4, utterances.FALLBACK_COVERAGE_WEIGHT, 1)]


def test_the_flags_of_a_failed_fallback_are_kept(model, audio, flagged):
    flagged({2: ("loop",), 4: ("loop", "skipped")})
    assert heard(model, audio).flags == ("loop",)
    flagged({2: ("loop",), 4: ("skipped",)})
    assert heard(model, audio).flags == ("skipped",)


def test_doubtful_texts_are_not_searched_again(model, audio, flagged):
    searches = flagged({2: ("doubtful",)})
    assert heard(model, audio).flags == ("doubtful",)
    assert len(searches) == 1


def test_strict_turns_flags_into_an_exit_code(model, audio, flagged, capsys):
    flagged({8: ("doubtful",)})
    arguments = [str(audio / "a.wav"), "--model", model, "--max_ratio", "0.3"]
    assert main(arguments) == 0
    assert main([*arguments, "--strict"]) == 1
    assert "flagged: doubtful" in capsys.readouterr().err
    flagged({8: ()})
    assert main([*arguments, "--strict"]) == 0


def test_words_have_times_within_their_segment(model, audio):
    recognizer = asr.load(model, "cpu", DecodeConfig(beam=2, max_ratio=0.3))
    for name in ("a.wav", "b.wav"):
        found = recognizer.transcribe(audio / name)
        assert " ".join(w.text for w in found.words) == found.text
        edges = [t for w in found.words for t in (w.start_s, w.end_s)]
        assert edges == sorted(edges) and edges[-1] <= found.duration_s
        assert all("".join(c for c, _, _ in w.characters) == w.text for w in found.words)


def test_times_count_from_the_beginning_of_the_recording(model, audio):
    recognizer = asr.load(model, "cpu", DecodeConfig(beam=2, max_ratio=0.3))
    waveform = asr.audio.clip.read(audio / "b.wav", sample_rate=16000)
    features = recognizer.utterance_recognizer.features(waveform)
    (early,), (late,) = (
        recognizer.utterance_recognizer.recognize([Chunk(features, s, s + 0.8)]) for s in (0.0, 5.0)
    )
    assert early.words and late.words[0].start_s == pytest.approx(early.words[0].start_s + 5)
    assert late.words[-1].characters[-1][2] == pytest.approx(late.words[-1].end_s)


def test_the_sounds_of_a_model_refine_its_times(model, save, audio):
    def words(**info):
        recognizer = asr.load(save(**info), "cpu", DecodeConfig(beam=2, max_ratio=0.3))
        return recognizer.transcribe(audio / "b.wav").words

    weights = np.random.default_rng(0).normal(0, 1, (3 * 20 + 1, 5)).astype(np.float32)
    before, after = words(), words(sounds=CharacterGaussians("ABC", weights).to_info())
    assert [w.text for w in before] == [w.text for w in after]
    assert [w.predictors for w in before] == [w.predictors for w in after]
    assert [w.characters for w in before] != [w.characters for w in after]


def test_hot_words_are_an_option(model, audio, tmp_path, capsys):
    (tmp_path / "hot.txt").write_text("CAB\t20\n")
    arguments = [str(audio / "b.wav"), "--model", model, "--max_ratio", "0.5", "-f", "json"]
    main(arguments)
    assert "CAB" not in json.loads(capsys.readouterr().out)["text"].split()
    main([*arguments, "--hotwords", str(tmp_path / "hot.txt")])
    assert "CAB" in json.loads(capsys.readouterr().out)["text"].split()
