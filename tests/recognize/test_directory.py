"""Decoding a data directory: what is written, and what survives a broken file or Ctrl-C."""

import json
import os

import numpy as np
import pytest
import soundfile
import torch

from asr.commands.decode import main
from asr.config import FeatureConfig, TrainConfig
from asr.corpus.datadir import DataDir
from asr.corpus.feature_statistics import CMVN_FILE, gather
from asr.errors import InputError
from asr.model.fast.product import use_precision
from asr.model.las import LAS
from asr.recognize import directory as decode
from asr.recognize.utterances import UtteranceRecognizer
from asr.store import find
from asr.store.model_file import Header, save_model
from asr.text.tokenizer import CharTokenizer

RATE = 16000
NAMES = ["ann-1", "ann-2", "bob-1", "bob-2"]


@pytest.fixture
def save(tiny_config, tmp_path):
    """Write a model of random weights: it babbles, but always the same."""

    def save(cmvn="none", **info):
        torch.manual_seed(0)
        config = TrainConfig(features=FeatureConfig(mel_bins=20, cmvn=cmvn), model=tiny_config)
        tokenizer = CharTokenizer.from_texts(["AB C"])
        weights = LAS(tiny_config, 20, len(tokenizer)).state_dict()
        path = tmp_path / "exp" / "final.safetensors"
        save_model(path, weights, Header(config, tokenizer, None, info))
        return str(path.parent)

    return save


@pytest.fixture
def data(tmp_path):
    """Four utterances of two speakers, without transcripts."""
    generator = np.random.default_rng(0)
    folder = tmp_path / "data"
    folder.mkdir()
    for index, name in enumerate(NAMES):
        noise = generator.normal(0, 0.02 * (index + 1), RATE // 2 + 1600 * index)
        soundfile.write(tmp_path / f"{name}.wav", noise, RATE)
    (folder / "wav.scp").write_text("".join(f"{n} {tmp_path}/{n}.wav\n" for n in NAMES))
    (folder / "utt2spk").write_text("".join(f"{n} {n[:3]}\n" for n in NAMES))
    (folder / "spk2utt").write_text("ann ann-1 ann-2\nbob bob-1 bob-2\n")
    return folder


def run(model, data, out, *options):
    arguments = ["--model", model, "--data", str(data), "--out", str(out), "--device", "cpu"]
    return main([*arguments, "--threads", "1", "--beam", "3", "--batch", "2", *options])


def results(out):
    lines = (out / decode.RESULTS).read_text().splitlines()
    return {entry["id"]: entry for entry in map(json.loads, lines)}


def nbest(out):
    return {name: entry["segments"][0]["nbest"] for name, entry in results(out).items()}


def test_results(save, data, tmp_path):
    out = tmp_path / "out"
    assert run(save(), data, out, "--nbest", "3") == 0
    found = nbest(out)
    assert list(found) == NAMES
    for line in (out / "text").read_text().splitlines():
        name, _, text = line.partition(" ")
        assert text.split() == found[name][0]["text"].split()
    for hypotheses in found.values():
        scores = [h["score"] for h in hypotheses]
        assert scores == sorted(scores, reverse=True) and len(scores) > 1
    summary = json.loads((out / "decode.json").read_text())
    sharp = [each["alignment"]["sharpness"] for each in results(out).values()]
    assert summary["alignment"]["sharpness"] == pytest.approx(np.mean(sharp), abs=1e-4)
    assert (summary["utterances"], summary["threads"], summary["errors"]) == (4, 1, {})
    assert summary["config"]["beam"] == 3
    assert not (out / decode.PARTIAL).exists()


def test_transcripts_are_never_replaced_by_hypotheses(save, data, tmp_path):
    """Neither in a data directory nor in a folder whose text no decoding wrote."""
    model, before = save(), "".join(f"{name} AB\n" for name in NAMES)
    (data / "text").write_text(before)
    for name in ("other", "hand"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "text").write_text("u1 BY HAND\n")
    (tmp_path / "other" / "utt2spk").write_text("u1 u1\n")
    (tmp_path / "link").symlink_to(data)
    for out in (data, tmp_path / "link", tmp_path / "other", tmp_path / "hand"):
        with pytest.raises(InputError, match="name a folder for the results alone"):
            run(model, data, out)
    assert (data / "text").read_text() == before
    assert (tmp_path / "hand" / "text").read_text() == "u1 BY HAND\n"
    for _ in range(2):  # its own results may be replaced
        assert run(model, data, tmp_path / "out") == 0


def test_brackets_in_names_are_not_markup(save, data, tmp_path):
    (tmp_path / "x[").mkdir()
    odd = data.rename(tmp_path / "x[" / "y]")
    assert run(save(), odd, tmp_path / "out") == 0
    assert (tmp_path / "out" / "text").is_file()


def test_bfloat16_gives_nearly_the_same_scores(save, data, tmp_path):
    model = save()
    try:
        for precision in ("float32", "bfloat16"):
            assert run(model, data, tmp_path / precision, "--precision", precision) == 0
    finally:
        use_precision("float32")
    exact, rounded = (nbest(tmp_path / precision) for precision in ("float32", "bfloat16"))
    for name in NAMES:
        scores = exact[name][0]["score"], rounded[name][0]["score"]
        assert scores[0] != scores[1] and scores[1] == pytest.approx(scores[0], rel=0.02)


@pytest.mark.parametrize(("least", "doubted"), [(0.0, True), (-1e3, False)])
def test_flags_depend_on_the_plausibility_model(save, data, tmp_path, least, doubted):
    """The texts are unknown words, below or above the threshold."""
    model = save(credit={"least": least, "oov_rate": 0.1}, vocabulary=[])
    assert run(model, data, tmp_path / "out", "--length_bonus", "9") == 0
    found = results(tmp_path / "out").values()
    assert all(h["text"] for h in found)
    assert all(("doubtful" in h["flags"]) == doubted for h in found)


def test_suspicious_utterances_are_listed(save, data, tmp_path):
    """No end is probable enough for this threshold, so the length limit ends all texts."""
    assert run(save(), data, tmp_path / "out", "--eos_threshold", "0.01") == 0
    lines = (tmp_path / "out" / "flags").read_text().splitlines()
    assert [line.split()[0] for line in lines] == NAMES
    assert all("no-end" in line.split()[1:] for line in lines)


def test_a_broken_file_does_not_stop_the_others(save, data, tmp_path, capsys):
    (tmp_path / "ann-2.wav").write_text("no audio")
    assert run(save(), data, tmp_path / "out") == 1
    names = [line.split()[0] for line in (tmp_path / "out" / "text").read_text().splitlines()]
    assert names == ["ann-1", "bob-1", "bob-2"]
    assert "ann-2.wav: a text file" in capsys.readouterr().err
    assert list(json.loads((tmp_path / "out" / "decode.json").read_text())["errors"]) == ["ann-2"]


def test_scores_of_an_earlier_decoding_are_removed(save, data, tmp_path):
    model, out = save(), tmp_path / "out"
    run(model, data, out)
    for name in ("wer_0_0.0", "cer_12_-0.5", "wer_notes.txt", "cer_of_ann.csv"):
        (out / name).touch()
    (out / "scoring_kaldi").mkdir()
    run(model, data, out, "--length_bonus", "2")
    assert {path.name for path in out.glob("*er_*")} == {"wer_notes.txt", "cer_of_ann.csv"}
    assert not (out / "scoring_kaldi").exists()


def test_scores_that_are_not_finite_fail_for_their_utterance_alone(
    save, data, tmp_path, capsys, monkeypatch
):
    original = UtteranceRecognizer.recognize

    def broken(self, chunks, **options):
        if any(chunk.end_s == pytest.approx(0.6) for chunk in chunks):
            raise InputError("the score of ctc is nan")
        return original(self, chunks, **options)

    monkeypatch.setattr(UtteranceRecognizer, "recognize", broken)
    assert run(save(), data, tmp_path / "out") == 1
    assert list(results(tmp_path / "out")) == ["ann-1", "bob-1", "bob-2"]
    assert "ann-2: the score of ctc is nan" in capsys.readouterr().err


@pytest.fixture
def decoded(monkeypatch):
    """Count the utterances of each batch; interrupt the batch after ``stop_after``."""
    sizes = []
    original = UtteranceRecognizer.recognize

    def counted(self, chunks, **options):
        if len(sizes) == counted.stop_after:
            raise KeyboardInterrupt
        sizes.append(len(chunks))
        return original(self, chunks, **options)

    counted.stop_after, counted.sizes = -1, sizes
    monkeypatch.setattr(UtteranceRecognizer, "recognize", counted)
    return counted


def interrupt(decoded, model, data, out):
    """Stop after two of the four utterances."""
    decoded.stop_after = 1
    with pytest.raises(KeyboardInterrupt):
        run(model, data, out)
    assert not (out / "text").exists()
    decoded.stop_after = -1
    decoded.sizes.clear()


def test_an_interrupted_decoding_is_continued(save, data, tmp_path, decoded):
    model, out = save(), tmp_path / "out"
    interrupt(decoded, model, data, out)
    with open(out / decode.PARTIAL, "ab") as file:
        file.write('{"id": "bob-1", "text": "\u00c1'.encode()[:-1])  # killed within a character
    assert run(model, data, out) == 0
    assert decoded.sizes == [2]
    assert run(model, data, tmp_path / "whole") == 0
    assert nbest(out) == nbest(tmp_path / "whole")
    ours, whole = (json.loads((f / "decode.json").read_text()) for f in (out, tmp_path / "whole"))
    assert ours["audio_s"] == whole["audio_s"] and ours["seconds"] > 0


@pytest.mark.parametrize("change", ["settings", "model", "data", "precision"])
def test_partial_results_of_other_settings_are_not_kept(
    save, data, tmp_path, decoded, change, capsys
):
    model, out, options = save(), tmp_path / "out", []
    interrupt(decoded, model, data, out)
    if change == "settings":
        options = ["--ctc_weight", "0.5"]
    elif change == "precision":
        options = ["--precision", "bfloat16"]
    elif change == "model":
        save("speaker")
    else:
        (data / "wav.scp").write_text("".join(f"{n} {tmp_path}/ann-1.wav\n" for n in NAMES))
    for _ in range(2):  # nothing is replaced by the same decoding, repeated
        capsys.readouterr()
        assert run(model, data, out, *options) == 0
        replaced = f"{out}: replaces results of another model" in capsys.readouterr().err
        assert replaced == (decoded.sizes == [2, 2])
    assert run(model, data, out, "--beam", "1") == 0
    assert f"{out}: replaces results of another model" in capsys.readouterr().err


def test_results_of_another_shape_are_not_taken(save, data, tmp_path):
    model, out = save(), tmp_path / "out"
    assert run(model, data, out) == 0
    heading = json.loads((out / "decode.json").read_text())["inputs"]
    (out / decode.PARTIAL).write_text(f'{heading}\n{{"id": "bob-1"}}\n3\n')
    assert run(model, data, out) == 0 and set(results(out)) == set(NAMES)
    for value in ("3", "{}"):
        (out / "decode.json").write_text(value)
        with pytest.raises(InputError, match=r"decode\.json: not of `asr decode`, expected"):
            run(model, data, out)


def test_statistics_of_speakers_are_read_or_computed(save, data, tmp_path):
    model = save("speaker")
    assert run(model, data, tmp_path / "computed") == 0
    gather(data, FeatureConfig(mel_bins=20))
    assert (data / CMVN_FILE).is_file()
    assert run(model, data, tmp_path / "read") == 0
    assert nbest(tmp_path / "computed") == nbest(tmp_path / "read")
    assert run(save("none"), data, tmp_path / "none") == 0
    assert nbest(tmp_path / "none") != nbest(tmp_path / "read")


def test_statistics_run_a_command_once_for_all_of_its_segments(data, tmp_path):
    (data / "wav.scp").write_text(f"r echo x >> {tmp_path}/runs; cat {tmp_path}/ann-1.wav |\n")
    (data / "segments").write_text("".join(f"{n} r 0.0 0.2\n" for n in NAMES))
    utterances = DataDir.load(data, text=False).utterances
    config = FeatureConfig(mel_bins=20, cmvn="speaker")
    assert set(decode.speaker_stats(data, utterances, config)) == {"ann", "bob"}
    assert (tmp_path / "runs").read_text() == "x\n"


def parts(model, data, out, count, *numbers):
    return [run(model, data, out, "--part", f"{number}/{count}") for number in numbers]


def merge(data, out):
    return main(["--data", str(data), "--out", str(out), "--merge"])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_merged_parts_equal_the_whole(save, data, tmp_path, count, monkeypatch):
    """Bit for bit, without any model: also one part, and more parts than batches."""
    model, out = save(), tmp_path / "parts"
    assert run(model, data, tmp_path / "whole") == 0
    assert parts(model, data, out, count, *range(1, count + 1)) == [0] * count
    monkeypatch.setattr(find, "FOLDER", tmp_path / "no models")
    assert merge(data, out) == 0
    for name in ("text", "results.jsonl", "flags"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    ours, whole = (json.loads((f / "decode.json").read_text()) for f in (out, tmp_path / "whole"))
    assert all(
        ours[key] == whole[key] for key in whole if key not in ("seconds", "real_time_factor")
    )
    assert not list(out.glob("split*"))


def test_a_missing_model_is_reported(data, tmp_path, monkeypatch):
    monkeypatch.setattr(find, "FOLDER", tmp_path / "no models")
    with pytest.raises(InputError, match="the following arguments are required: --model"):
        main(["--data", str(data), "--out", str(tmp_path / "out")])


def test_parts_survive_an_interruption(save, data, tmp_path, decoded):
    """A finished part is not decoded again; a missing one is named."""
    model, out = save(), tmp_path / "out"
    assert parts(model, data, out, 2, 1) == [0]
    decoded.stop_after = 1
    with pytest.raises(KeyboardInterrupt):
        parts(model, data, out, 2, 2)
    with pytest.raises(InputError, match=r"split2: 1 part of 2 missing or unfinished: 2/2; run"):
        merge(data, out)
    decoded.stop_after = -1
    decoded.sizes.clear()
    assert parts(model, data, out, 2, 1, 2) == [0, 0]
    assert decoded.sizes == [2]
    assert merge(data, out) == 0
    assert list(results(out)) == NAMES


@pytest.mark.parametrize("more", [["--part", "1/2"], ["--model", "an4"]])
def test_options_of_a_part_do_not_merge(data, tmp_path, more):
    with pytest.raises(InputError, match="--merge: takes neither --part nor --model"):
        main(["--data", str(data), "--out", str(tmp_path), "--merge", *more])


def test_parts_of_different_decodings_are_not_merged(save, data, tmp_path):
    model, out = save(), tmp_path / "out"
    parts(model, data, out, 2, 1)
    run(model, data, out, "--part", "2/2", "--ctc_weight", "0.5")
    with pytest.raises(InputError, match="these parts do not belong together"):
        merge(data, out)
    parts(model, data, out, 3, 1)
    with pytest.raises(InputError, match=r"expected the parts of one decoding.*split2, split3"):
        merge(data, out)


def test_a_part_whose_audio_has_changed_is_decoded_again(save, data, tmp_path, decoded):
    model, out = save(), tmp_path / "out"
    parts(model, data, out, 1, 1)
    count = len(decoded.sizes)
    parts(model, data, out, 1, 1)
    assert len(decoded.sizes) == count
    os.utime(tmp_path / "ann-2.wav", ns=(1, 1))
    parts(model, data, out, 1, 1)
    assert len(decoded.sizes) == 2 * count


def test_damaged_results_of_a_part_are_named(save, data, tmp_path):
    model, out = save(), tmp_path / "out"
    parts(model, data, out, 1, 1)
    for name in ("results.jsonl", "decode.json"):
        path = out / "split1" / "1" / name
        path.write_bytes(b"\xff")
        with pytest.raises(InputError, match=rf"{name}: damaged \(.*; delete it, and decode again"):
            merge(data, out)
        if name == "decode.json":
            with pytest.raises(InputError, match=r"decode.json: damaged"):
                parts(model, data, out, 1, 1)
        path.unlink()
        with pytest.raises(InputError, match=r"1 part of 1 missing or unfinished"):
            merge(data, out)
        parts(model, data, out, 1, 1)
    assert merge(data, out) == 0


def test_unreadable_utterances_of_parts_are_reported(save, data, tmp_path, capsys):
    (tmp_path / "ann-2.wav").write_text("no audio")
    assert sorted(parts(save(), data, tmp_path / "out", 2, 1, 2)) == [0, 1]
    assert merge(data, tmp_path / "out") == 1
    assert "3 of 4 utterances" in capsys.readouterr().out
    assert "ann-2" in json.loads((tmp_path / "out" / "decode.json").read_text())["errors"]


@pytest.mark.parametrize("part", ["0/2", "3/2", "1", "a/b", "1/2/3"])
def test_parts_have_a_number_and_a_count(save, data, tmp_path, part):
    with pytest.raises(InputError, match="expected I/N"):
        run(save(), data, tmp_path / "out", "--part", part)
