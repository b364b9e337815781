"""``asr explain`` and ``recognizer.explain`` with the model that ships."""

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

import asr
from asr.cli import main
from asr.config import DecodeConfig, ExplainConfig
from asr.errors import InputError
from asr.explain import pictures
from asr.explain.explainer import Explainer
from asr.explain.page import render, write_page

SPEECH = Path(__file__).parents[2] / "data/mini/test-mini/3001/1/3001-1-0000.opus"
FEW = ExplainConfig(masks=20)


@pytest.fixture(scope="module")
def recognizer():
    return asr.load("an4", "cpu")


def test_explanation_of_speech(recognizer):
    clip = asr.Clip(SPEECH, 0.0, 1.6)
    found = recognizer.explain(clip, FEW)
    assert found.transcript.text == recognizer.transcribe(clip).text
    (segment,) = found.segments
    count, length_s = len(segment.text), segment.segment.end_s - segment.segment.start_s
    assert segment.attention.shape == segment.relevance.sound.shape
    assert segment.attention.shape[0] == count + 1
    assert abs(segment.attention.shape[1] - 100 * length_s) <= 3
    np.testing.assert_allclose(segment.attention.sum(1), 1.0, atol=0.01)
    assert [each.word.text for each in segment.words] == segment.segment.text.split()
    assert 0 <= segment.overlap.chance <= 1 and 0 <= segment.overlap.share <= 1
    assert segment.relevance.sound.max() > 0.1
    assert segment.relevance.without_sound.mean() < segment.relevance.log_probs.mean() - 0.5


def test_silence_has_nothing_to_explain(recognizer):
    found = recognizer.explain((np.zeros(16000), 16000), FEW)
    assert found.segments == () and found.transcript.text == ""


def test_the_command_writes_all_formats(tmp_path, capsys):
    bad, page = tmp_path / "bad.wav", tmp_path / "out" / "page.html"
    bad.write_text("no audio")
    options = ["--masks", "20", "--threads", "1", "--beam", "4", "--vad", "none"]
    names = [str(SPEECH), str(bad), "-o", str(page), "-f", "html,json,png,npz"]
    code = main(["explain", *names, *options])
    assert code == 1 and "bad.wav" in capsys.readouterr().err
    assert {path.name for path in page.parent.iterdir()} == {
        "page.html",
        "page.json",
        "page.3001-1-0000.png",
        "page.3001-1-0000.npz",
    }
    summary = json.loads(page.with_suffix(".json").read_text())
    (file,) = summary["files"]
    assert summary["segments"] == 1 and file["file"] == SPEECH.name
    assert set(summary["curves"]) == {"attention", "relevance", "chance"}
    arrays = np.load(page.parent / "page.3001-1-0000.npz", allow_pickle=False)
    count = len(arrays["0.characters"])
    assert "".join(arrays["0.characters"]).split() == file["text"].split()
    assert arrays["0.relevance"].shape == arrays["0.attention"].shape
    assert arrays["0.history"].shape == (count + 1, count)


def test_attention_of_a_text_that_was_cut_off_has_a_row_for_its_end():
    short = asr.load("an4", "cpu", DecodeConfig(max_ratio=0.05))
    (found,) = short.explain(asr.Clip(SPEECH, 0.0, 1.6), FEW).segments
    assert "no-end" in found.segment.flags
    assert found.attention.shape == found.relevance.sound.shape
    assert not found.attention[-1].any()


def test_an_interrupted_command_keeps_what_is_explained(tmp_path, capsys, monkeypatch):
    original, calls = Explainer.explain, []

    def interrupted(self, *arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return original(self, *arguments, **options)

    monkeypatch.setattr(Explainer, "explain", interrupted)
    names = [shutil.copy(SPEECH, tmp_path / f"{name}.opus") for name in "abc"]
    page = tmp_path / "out" / "page.html"
    options = ["--masks", "4", "--threads", "1", "--vad", "none", "-f", "html,json,npz"]
    assert main(["explain", *map(str, names), "-o", str(page), *options]) == 130
    out, err = capsys.readouterr()
    assert err.splitlines()[-1] == ("asr explain: interrupted; 1 of 3 files explained and written")
    assert "Traceback" not in err and out.strip() == str(page)
    assert {path.name for path in page.parent.iterdir()} == {
        "page.html",
        "page.json",
        "page.a.npz",
    }
    assert page.read_text().count('class="recording"') == 1
    assert [
        each["file"] for each in json.loads(page.with_suffix(".json").read_text())["files"]
    ] == ["a.opus"]


def test_a_failed_write_keeps_what_is_explained(tmp_path, monkeypatch):
    original = pictures.draw_explanation

    def full(explanation, path):
        if ".b." in path.name:
            raise InputError(f"{path}: cannot write (No space left on device)")
        return original(explanation, path)

    monkeypatch.setattr(pictures, "draw_explanation", full)
    names = [str(shutil.copy(SPEECH, tmp_path / f"{name}.opus")) for name in "abc"]
    page = tmp_path / "out" / "page.html"
    options = ["--masks", "4", "--threads", "1", "--vad", "none", "-f", "html,png"]
    assert main(["explain", *names, "-o", str(page), *options]) == 2
    assert page.read_text().count('class="recording"') == 1


def test_two_recordings_of_one_name_are_refused_before_the_work(tmp_path, capsys):
    for name in "ab":
        (tmp_path / name).mkdir()
        shutil.copy(SPEECH, tmp_path / name / "x.opus")
    names = [str(tmp_path / name / "x.opus") for name in "ab"]
    assert main(["explain", *names, "-o", str(tmp_path / "p.html"), "-f", "png"]) == 2
    assert f"{names[0]} and {names[1]} would both write" in capsys.readouterr().err


def test_an_explanation_without_arrays_has_the_same_numbers(recognizer, tmp_path):
    found = recognizer.explain(asr.Clip(SPEECH, 0.0, 1.6), FEW, name="a")
    light = found.without_arrays()
    assert light.to_dict() == found.to_dict() and light.waveform.size == 0
    whole = write_page(tmp_path / "whole.html", [found])
    parts = write_page(tmp_path / "parts.html", [light], [render(found, 0)])
    assert parts.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-f", "pdf"], "no format 'pdf'"),
        (["--masks", "1"], "masks"),
        (["-o", "{speech}"], "expected a name that ends in .html"),
        (["-o", "page.txt.html", "-f", "html", "--stretch_s", "0"], "stretch_s"),
    ],
)
def test_wrong_options(options, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = [option.format(speech=SPEECH) for option in options]
    assert main(["explain", str(SPEECH), "-o", "page.html", *options]) == 2
    assert message in capsys.readouterr().err
