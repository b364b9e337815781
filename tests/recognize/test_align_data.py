"""asr align: CTM of a data directory, and its errors against another one."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from asr.commands.align import main
from asr.errors import InputError
from asr.recognize import forced
from asr.recognize.forced import ctm_words
from asr.recognize.refine import CharacterGaussians
from asr.recognize.spelling import spell
from asr.recognize.transcript import Word
from asr.recognize.utterances import UtteranceRecognizer
from asr.score.times import compare_times
from asr.text.timed import CtmWord, ctm_lines, read_ctm
from asr.text.tokenizer import CharTokenizer


@pytest.fixture
def data(tmp_path):
    """Two utterances of noise."""
    folder = tmp_path / "data"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name in ("s1-1", "s1-2"):
        soundfile.write(folder / f"{name}.wav", generator.normal(0, 0.1, 16000), 16000)
    (folder / "wav.scp").write_text("".join(f"s1-{i} {folder}/s1-{i}.wav\n" for i in (1, 2)))
    (folder / "text").write_text("s1-1 AB C\ns1-2 A\n")
    (folder / "utt2spk").write_text("s1-1 s1\ns1-2 s1\n")
    (folder / "spk2utt").write_text("s1 s1-1 s1-2\n")
    return folder


def end_s(word):
    return word.start_s + word.duration_s


def ctm_word(text, start_s, end_s):
    return CtmWord("u", "1", start_s, end_s - start_s, text, None)


def run(data, model, *more):
    output = data.parent / "out" / "words.ctm"
    arguments = [str(data), "--model", model, "-o", str(output), "--device", "cpu", *more]
    return main(arguments), output


@pytest.mark.parametrize("by", ["ctc", "attention"])
def test_transcripts_become_ctm(data, model, by):
    code, output = run(data, model, "--by", by)
    found = read_ctm(output)
    assert code == 0
    assert {k: [word.word for word in v] for k, v in found.items()} == {
        "s1-1": ["AB", "C"],
        "s1-2": ["A"],
    }
    for words in found.values():
        edges = [edge for word in words for edge in (word.start_s, end_s(word))]
        assert edges == sorted(edges) and edges[0] >= 0 and edges[-1] <= 1.0


class At:
    """Sounds that put every word at one time."""

    def __init__(self, time_s):
        self.time_s = time_s

    def refine(self, features, words, shift_s, start_s=0.0):
        return tuple(replace(word, start_s=self.time_s, end_s=self.time_s) for word in words)


@pytest.mark.parametrize(
    ("enough", "options", "time_s"),
    [(2, [], 0.5), (3, [], 0.25), (2, ["--recognize", "--beam", "1", "--max_ratio", "0.2"], 0.25)],
)
def test_sounds_are_learnt_from_enough_transcripts(
    data, model, monkeypatch, enough, options, time_s
):
    monkeypatch.setattr(CharacterGaussians, "from_info", lambda *_: At(0.25))  # those of the model
    monkeypatch.setattr(CharacterGaussians, "estimate", lambda *_: At(0.5))
    monkeypatch.setattr(forced, "ENOUGH", enough)
    code, output = run(data, model, *options)
    words = [word for each in read_ctm(output).values() for word in each]
    assert code == 0 and {word.start_s for word in words} <= {time_s}
    assert words


def test_recognised_text_is_aligned_without_transcripts(data, model):
    (data / "text").unlink()
    code, output = run(data, model, "--recognize", "--beam", "1", "--max_ratio", "0.2")
    assert code == 0 and output.exists()
    with pytest.raises(InputError, match="text"):
        run(data, model)


def test_settings_of_a_search_need_one(data, model):
    with pytest.raises(InputError, match=r"length_bonus = 0\.7: only a search reads it"):
        run(data, model, "--length-bonus", "0.7")
    assert run(data, model, "--batch", "1")[0] == 0


def test_a_comparison_with_itself_has_no_errors(data, model, capsys):
    _, output = run(data, model)
    truth = output.rename(data.parent / "truth.ctm")
    with truth.open("a") as file:
        file.write("of-another-directory 1 0 1 AB\n")
    run(data, model, "--ctm", str(truth))
    out = capsys.readouterr().out
    assert "3 words compared, 0 not found" in out and "starts: median error 0 ms" in out


def test_inputs_are_never_overwritten(data, model):
    truth = data.parent / "truth.ctm"
    truth.write_text("s1-1 1 0 1 AB\n")
    kept = {path: path.read_bytes() for path in (truth, *data.iterdir())}
    for target in (truth, data / "text", data / "wav.scp", data / "s1-1.wav", model):
        with pytest.raises(InputError):
            run(data, model, "--ctm", str(truth), "-o", str(target))
    assert {path: path.read_bytes() for path in (truth, *data.iterdir())} == kept


def test_unreadable_audio_is_left_out(data, model, capsys):
    (data / "s1-1.wav").write_text("no audio")
    code, output = run(data, model)
    assert code == 1 and list(read_ctm(output)) == ["s1-2"]
    assert "asr align: s1-1: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [[], ["--recognize", "--beam", "1", "--max_ratio", "0.2"]], ids=["text", "search"]
)
def test_an_utterance_whose_scores_are_not_finite_is_left_out(
    data, model, capsys, monkeypatch, options
):
    """The other one of its batch is aligned."""
    words = UtteranceRecognizer.words

    def broken(self, features, *others, **options):
        if any(len(each) < 90 for each in features):
            raise InputError("a score is NaN")
        return words(self, features, *others, **options)

    monkeypatch.setattr(UtteranceRecognizer, "words", broken)
    soundfile.write(data / "s1-1.wav", np.ones(8000), 16000)
    code, output = run(data, model, *options)
    assert code == 1 and list(read_ctm(output)) in (["s1-2"], [])
    err = capsys.readouterr().err
    assert "asr align: s1-1: a score is NaN" in err and "1 of 2 utterances" in err


def test_errors_by_hand():
    found = {"u": ctm_words("u", (Word("A", 0.1, 0.3), Word("X", 0.3, 0.4), Word("C", 0.5, 0.91)))}
    u = [ctm_word("A", 0.15, 0.3), ctm_word("B", 0.3, 0.5), ctm_word("C", 0.5, 0.8)]
    expected = {"u": u, "v": [ctm_word("D", 0, 1)]}
    errors = compare_times(found, expected)
    assert errors.starts_s == pytest.approx([-0.05, 0.0])
    assert errors.ends_s == pytest.approx([0.0, 0.11])
    assert errors.missing == 2
    assert "bias -25 ms" in errors.render()
    assert errors.in_time == 0.25 and "25.0 % of the words have both ends" in errors.render()
    assert errors.to_dict()["end_median_s"] == pytest.approx(0.055)
    assert errors.to_dict()["start_bias_s"] == pytest.approx(-0.025)
    assert ctm_lines(found["u"][:1]) == "u 1 0.100 0.200 A\n"
    assert compare_times({}, expected).render() == "0 words compared, 4 not found"


@pytest.mark.parametrize("line", ["u 1 0.1 0.2", "u 1 soon 0.2 A", "u"])
def test_invalid_ctm_lines(tmp_path, line):
    path = tmp_path / "x.ctm"
    path.write_text(f";; comment\nu 1 0.0 0.1 A\n{line}\n")
    with pytest.raises(InputError, match=r"x\.ctm:3: "):
        read_ctm(path)


@pytest.mark.parametrize("by", ["ctc", "attention"])
def test_words_with_characters_that_the_model_lacks_are_kept(data, model, by, capsys):
    (data / "text").write_text("s1-1 b\u00c1\u00c7a 42 C \u2013\ns1-2 A\n")  # the model: A B C
    code, output = run(data, model, "--by", by)
    found = read_ctm(output)
    assert code == 0
    assert [word.word for word in found["s1-1"]] == ["b\u00c1\u00c7a", "42", "C", "\u2013"]
    assert all(word.duration_s > 0 for word in found["s1-1"])
    err = capsys.readouterr().err
    assert "'\u00c7' aligned as 'C' (first in s1-1)" in err and "'4' left out" in err
    assert "words of such characters alone lie between their neighbours: 42 (s1-1)" in err


def test_a_warning_names_audio_that_is_too_short_for_ctc(data, model, capsys):
    (data / "text").write_text(f"s1-1 {'A' * 500}\ns1-2 A\n")
    code, output = run(data, model)
    assert code == 0 and len(read_ctm(output)) == 2
    err = capsys.readouterr().err
    assert "s1-1: more characters than the audio has encoder steps" in err and "s1-2" not in err
    run(data, model, "--by", "attention")
    assert "encoder steps" not in capsys.readouterr().err


def test_no_warning_if_the_model_has_all_characters(data, model, capsys):
    run(data, model)
    assert "lacks" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("AB C", "AB C"),
        ("ab \u00c1", "AB A"),
        ("A-B\u00ad \u200b c", "AB \ufffd C"),  # a soft hyphen, and a word that nobody sees
        ("\ufffd <unk>", "\ufffd \ufffd"),
        ("A \u0645\u06cc\u200c\u062e B", "A \ufffd B"),  # Persian: a joiner between letters
        ("", ""),
    ],
)
def test_spelling_by_hand(text, spelled):
    assert spell(text, CharTokenizer.from_texts(["AB C"])) == spelled


def test_decomposed_letters_of_a_table_are_used():
    tokenizer = CharTokenizer(["<blank>", "<unk>", "e", "\u0301", "<sos/eos>"])
    assert tokenizer.normalize(spell("\u00e9\u00c9x", tokenizer)) == "e\u0301e\u0301"
