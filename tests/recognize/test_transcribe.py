"""Transcription of many inputs, bad files, and the files of the results."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

import asr
from asr.commands.transcribe import main
from asr.config import DecodeConfig, SegmentationConfig
from asr.errors import InputError
from asr.store import find

RATE = 16000


def test_python_takes_files_bytes_and_arrays(model, audio):
    recognizer = asr.load(model, device="cpu", config=DecodeConfig(beam=2, nbest=2))
    path = audio / "a.wav"
    samples, rate = soundfile.read(path, dtype="float32")
    stereo = np.stack([samples, samples], axis=1)
    expected = recognizer.transcribe(path)
    assert expected.duration_s == 0.5
    assert recognizer.transcribe(path).text == expected.text
    for source in (path.read_bytes(), (samples, rate), (stereo, rate)):
        assert recognizer.transcribe(source).text == expected.text
    several = recognizer.transcribe([path, audio / "b.wav"], attention=True)
    assert [t.duration_s for t in several] == [0.5, 0.8]
    segment = several[0].segments[0]
    assert segment.nbest[0].text.strip() == segment.text
    assert segment.attention.sum(1) == pytest.approx(1.0, abs=1e-5)
    value = several[0].to_dict()
    keys = {"text", "language", "duration", "confidence", "flags", "alignment", "segments"}
    assert set(value) == keys and 0 < value["alignment"]["sharpness"] <= 1
    assert value["confidence"] is None and value["segments"][0]["confidence"] is None


def test_bad_arrays_are_refused(model):
    recognizer = asr.load(model, device="cpu")
    for samples in (np.full(8000, np.nan), np.zeros((2, 3, 4))):
        with pytest.raises(InputError, match="expected finite numbers"):
            recognizer.transcribe((samples, RATE))
    with pytest.raises(InputError, match="transpose arrays that have the channels first"):
        recognizer.transcribe((np.zeros((1, 8000)), RATE))
    for source in (np.zeros(8000), bytearray(b"RIFF"), None):
        with pytest.raises(InputError, match=r"samples with their rate, \(samples, rate\)"):
            recognizer.transcribe(source)


def test_arrays_of_any_memory_layout(model, audio):
    recognizer = asr.load(model, "cpu")
    samples, rate = soundfile.read(audio / "a.wav", dtype="float32")
    expected = recognizer.transcribe((samples, rate)).text
    backwards = samples[::-1].copy()[::-1]
    for same in (backwards, samples.astype(">f4")):
        assert recognizer.transcribe((same, rate)).text == expected


def test_a_model_without_ctc_is_searched_without_it(save, audio, capsys):
    """Its CTC head was not trained."""
    command = [str(audio / "a.wav"), "--length_bonus", "5", "--model"]
    assert main([*command, save(ctc_weight=0.0)]) == 0
    out, err = capsys.readouterr()
    assert "trained without CTC: searching without it" in err
    main([*command, save(), "--ctc_weight", "0"])
    assert capsys.readouterr().out == out
    main([*command, save()])
    assert capsys.readouterr().out != out


def test_one_bad_file_does_not_stop_the_others(model, audio, capsys):
    files = [str(audio / name) for name in ("a.wav", "bad.wav", "missing.wav", "b.wav")]
    assert main([*files, "--model", model, "--device", "cpu"]) == 1
    out, err = capsys.readouterr()
    assert [line.split("\t")[0] for line in out.splitlines()] == [files[0], files[3]]
    assert f"{files[1]}: a text file" in err
    assert files[2] in err


def test_impossible_file_names(model, audio, capsys):
    names = [str(audio / ("x" * 300)), str(audio / "a\0.wav"), str(audio / "a.wav")]
    assert main([*names, "--model", model]) == 1
    out, err = capsys.readouterr()
    assert out.startswith(names[2]) and "File name too long" in err and "null" in err


@pytest.mark.skipif(os.name == "nt", reason="names of files are text there")
def test_file_names_that_are_not_utf8(model, audio, capsysbinary):
    """A file with a name in Latin-1 is read, and its name is printed as UTF-8."""
    other = os.fsencode(audio) + b"/caf\xe9.wav"
    (audio / "b.wav").rename(os.fsdecode(other))
    (audio / "bad.wav").unlink()
    babble = ["--model", model, "--length_bonus", "5"]
    assert main([str(audio), *babble, "-f", "ctm,txt"]) == 0
    out = capsysbinary.readouterr().out.decode()
    assert f"{audio}/caf\\udce9.wav\t" in out and "caf\\udce9 1 " in out
    assert main([str(audio), *babble, "-f", "all", "-o", str(audio / "out")]) == 0
    assert "caf\\udce9 1 " in (audio / "out" / "caf\udce9.ctm").read_text()


def test_a_name_of_several_lines_makes_one_line(model, audio, capsys):
    """A program that reads one line per file would otherwise take a name for a text."""
    (audio / "b.wav").rename(audio / "b\nc.wav\tHELLO.wav")
    (audio / "bad.wav").rename(audio / "bad\n.wav")
    assert main([str(audio), "--model", model]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    assert f"{audio}/b\\nc.wav\\tHELLO.wav\t" in out
    assert re.search(r"/bad\\n\.wav: \w+", err)


def test_a_result_that_cannot_be_written_does_not_stop_the_others(model, audio, capsys):
    (audio / "bad.wav").unlink()
    (audio / "out" / "a.txt").mkdir(parents=True)
    assert main([str(audio), "--model", model, "-o", str(audio / "out")]) == 1
    err = capsys.readouterr().err
    assert "a.txt: cannot write" in err and "1 of 2 files" in err
    assert (audio / "out" / "b.txt").is_file()


def test_results_go_into_a_folder(model, audio, capsys):
    (audio / "bad.wav").unlink()
    arguments = [str(audio), "--model", model, "-f", "txt,json", "-o", str(audio / "out")]
    assert main([*arguments, "--beam", "1"]) == 0
    assert capsys.readouterr().out == ""
    assert sorted(p.name for p in (audio / "out").iterdir()) == [
        "a.json",
        "a.txt",
        "b.json",
        "b.txt",
    ]
    value = json.loads((audio / "out" / "b.json").read_text())
    assert value["segments"][0]["end"] == 0.8
    assert (audio / "out" / "b.txt").read_text().strip() == value["text"]


def test_results_beside_a_folder_of_audio_are_replaced(model, audio, monkeypatch):
    """The current folder is not that of the audio, and no setting names a file in it."""
    (audio / "out").mkdir()
    monkeypatch.chdir(audio / "out")
    for _ in range(2):
        assert main([str(audio / "a.wav"), "--model", model, "-o", "."]) == 0


def test_results_of_subfolders_stand_in_subfolders(model, audio, tmp_path, capsys):
    (audio / "bad.wav").unlink(missing_ok=True)
    for name in ("ann", "bob"):
        (audio / name).mkdir()
        shutil.copy(audio / "a.wav", audio / name)
    assert main([str(audio), "--recursive", "--model", model, "-o", str(tmp_path / "out")]) == 0
    found = {str(path.relative_to(tmp_path / "out")) for path in tmp_path.glob("out/**/*.txt")}
    assert {"a.txt", "ann/a.txt", "bob/a.txt"} <= found
    assert f"into {tmp_path}/out/\n" in capsys.readouterr().err


def test_two_inputs_for_one_output_are_refused_before_work_starts(model, audio):
    soundfile.write(audio / "a.flac", np.zeros(RATE), RATE)
    files = [str(audio / "a.wav"), str(audio / "a.flac")]
    with pytest.raises(InputError, match=r"a\.wav and .*a\.flac would both write"):
        main([*files, "--model", model, "-o", str(audio / "out")])
    assert not (audio / "out").exists()


def test_a_folder_without_audio(model, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no audio file"):
        main([str(tmp_path / "empty"), "--model", model])


@pytest.mark.parametrize("cmvn", ["none", "speaker"])
def test_a_long_file_has_segments_and_batches_change_nothing(save, audio, cmvn):
    long, rate = np.random.default_rng(1).normal(0, 0.1, 65 * RATE), RATE
    long[25 * rate : 26 * rate] = long[50 * rate : 51 * rate] = 0.0
    cutting = SegmentationConfig(vad="fixed")
    soundfile.write(audio / "long.wav", long, rate)
    files = [audio / name for name in ("a.wav", "long.wav", "b.wav")]
    model = save(cmvn)
    config = DecodeConfig(beam=1, ctc_weight=0.0, max_ratio=0.05, batch=1)
    recognizer = asr.load(model, "cpu", config, segmentation=cutting)
    alone = [recognizer.transcribe(file) for file in files]
    for batch in (2, 16):
        several = asr.load(model, "cpu", replace(config, batch=batch), segmentation=cutting)
        together = several.transcribe(files)
        assert [t.text for t in together] == [t.text for t in alone]
    segments = together[1].segments
    assert len(segments) == 3 and segments[0].start_s == 0.0 and segments[-1].end_s == 65.0
    assert [s.end_s for s in segments[:-1]] == [s.start_s for s in segments[1:]]


def test_integer_samples_have_full_scale_too(model, audio):
    recognizer = asr.load(model, device="cpu", config=DecodeConfig(beam=1))
    integers, rate = soundfile.read(audio / "a.wav", dtype="int16")
    floats, _ = soundfile.read(audio / "a.wav", dtype="float32")
    one, two = (recognizer.transcribe((x, rate)).segments[0] for x in (integers, floats))
    assert (one.text, one.score) == (two.text, two.score)
    with pytest.raises(InputError, match="a rate of 0"):
        recognizer.transcribe((floats, 0))


def test_suspicious_segments_are_named(model, audio, capsys):
    assert (
        main([str(audio / "a.wav"), "--model", model, "-f", "json", "--eos_threshold", "0.01"]) == 0
    )
    out, err = capsys.readouterr()
    assert json.loads(out)["segments"][0]["flags"][0] == "no-end"
    assert f"warning: {audio / 'a.wav'}: 0.0 to 0.5 s flagged: no-end" in err


def test_no_input_and_no_model(model, audio):
    with pytest.raises(InputError, match="required"):
        main(["--model", model])
    with pytest.raises(InputError, match=r"https://here.org/a.wav: an address.*download it first"):
        main(["https://here.org/a.wav", "--model", model])
    with pytest.raises(InputError, match="device gpu: expected auto, cpu, cuda or cuda:N"):
        main([str(audio / "a.wav"), "--model", model, "--device", "gpu"])
    with pytest.raises(InputError, match="no such model"):
        main([str(audio / "a.wav"), "--model", str(audio / "nothing")])


def test_the_model_of_the_package_is_the_default(model, audio, capsys, monkeypatch):
    file = str(audio / "a.wav")
    monkeypatch.setattr(find, "FOLDER", audio / "models")
    with pytest.raises(InputError, match="no model is named"):
        main([file])
    (audio / "models" / find.DEFAULT).mkdir(parents=True)
    source = Path(model, find.MODEL_FILE)
    source.rename(audio / "models" / find.DEFAULT / find.BUNDLED_FILE)
    assert main([file]) == 0
    out, err = capsys.readouterr()
    assert f"model: {find.DEFAULT}, which comes with the package" in err
    assert main([file, "--model", find.DEFAULT]) == 0
    assert capsys.readouterr().out == out
    (audio / find.DEFAULT).mkdir()  # a folder of this name does not get in the way
    monkeypatch.chdir(audio)
    assert asr.load(device="cpu").transcribe(file).text == out.strip()


@pytest.mark.parametrize(
    "module", ["asr.commands.transcribe", "asr.commands.calibrate", "asr.commands.decode"]
)
def test_help_does_not_import_torch(module):
    code = (
        f"import sys\nfrom {module} import main\ntry:\n    main(['--help'])\n"
        "except SystemExit:\n    pass\nassert 'torch' not in sys.modules, 'torch'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "(default: the model's or 8)" in " ".join(done.stdout.split())  # --beam


def test_whole_files_do_not_follow_each_other_on_standard_output(model, audio, capsys):
    files = [str(audio / "a.wav"), str(audio / "b.wav")]
    for arguments in (
        [*files, "-f", "srt"],
        [*files, "-f", "json,textgrid"],
        [files[0], "-f", "all"],
    ):
        with pytest.raises(InputError, match=r"(srt|textgrid|audacity) needs a file of its own"):
            main([*arguments, "--model", model])
    assert main([files[0], "-f", "srt", "--model", model]) == 0


def test_two_recordings_of_one_name_are_refused_on_standard_output(model, audio, capsys):
    (audio / "other").mkdir()
    shutil.copy(audio / "a.wav", audio / "other" / "a.wav")
    files = [str(audio / "a.wav"), str(audio / "other" / "a.wav")]
    with pytest.raises(InputError, match="both would be called a on standard output"):
        main([*files, "-f", "ctm", "--model", model])
    assert main([*files, "-f", "json", "--model", model]) == 0
    for name in ("a b.wav", "a_b.wav"):
        shutil.copy(audio / "a.wav", audio / name)
    with pytest.raises(InputError, match="both would be called a_b on standard output"):
        main([str(audio / "a b.wav"), str(audio / "a_b.wav"), "-f", "ctm", "--model", model])


def test_the_folder_of_the_results_is_not_named_like_a_file(model, audio, capsys):
    arguments = [str(audio / "a.wav"), "--model", model, "-f", "txt,ctm", "-o"]
    with pytest.raises(InputError, match=r"did you mean `-f textgrid -o FOLDER`\?"):
        main([*arguments, str(audio / "a.TextGrid")])
    (audio / "out.srt").mkdir()
    assert main([*arguments, str(audio / "out.srt")]) == 0
    assert f"\nwrote 2 files into {audio}/out.srt/\n" in capsys.readouterr().err


def test_a_file_of_several_segments(model, audio, capsys):
    """A line for each segment, and one warning; one of several files is one line."""
    noise = np.random.default_rng(0).normal(0, 0.1, 16 * RATE)
    noise[7 * RATE : 9 * RATE] = 0.0
    soundfile.write(audio / "long.wav", noise, RATE)
    options = ["--model", model, "--length_bonus", "5", "--eos_threshold", "0.01"]
    assert main([str(audio / "long.wav"), *options]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    (warning,) = re.findall("warning: .*", err)
    assert re.fullmatch(r".*long.wav: 2 of 2 segments are flagged: .*no-end.*tells which", warning)
    files = [str(audio / name) for name in ("bad.wav", "long.wav", "missing.wav")]
    assert main([*files, *options]) == 1
    both, err = capsys.readouterr()
    assert both == f"{files[1]}\t{' '.join(out.split())}\n"
    assert err.splitlines()[-1] == f"asr transcribe: failed: {files[0]}, {files[2]}"
