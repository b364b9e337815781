"""Inputs of a command line, names of the results, and continued runs."""

import io
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.commands import transcribe as cli
from asr.commands.transcribe import main
from asr.errors import InputError
from asr.recognize.inputs import collect
from asr.store.find import find_model
from asr.terminal import Quiet

RATE = 16000


@pytest.fixture
def transcribe(model, capsys):
    """Run the command; returns exit code, lines of standard output, standard error."""

    def run(*arguments):
        code = main([*map(str, arguments), "--model", model, "--beam", "1", "--max_ratio", "0.1"])
        out, err = capsys.readouterr()
        return code, out.splitlines(), err

    return run


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def data_directory(folder, segments=None):
    """Two recordings of one and two seconds."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name, seconds in (("r1", 1), ("r2", 2)):
        soundfile.write(folder / f"{name}.wav", generator.normal(0, 0.1, seconds * RATE), RATE)
    (folder / "wav.scp").write_text(f"r1 {folder}/r1.wav\nr2 cat {folder}/r2.wav |\n")
    if segments is not None:
        (folder / "segments").write_text(segments)
    return folder


def test_a_list_names_files_and_folders(transcribe, audio, tmp_path):
    (audio / "list").write_text(f"{audio}/b.wav\n\n{audio}/a.wav\n")
    code, out, _ = transcribe("--list", audio / "list")
    assert code == 0
    assert [line.split("\t")[0] for line in out] == [f"{audio}/b.wav", f"{audio}/a.wav"]
    (audio / "empty").write_text("\n")
    with pytest.raises(InputError, match="names no file, expected a path"):
        transcribe("--list", audio / "empty")
    with pytest.raises(InputError, match="nowhere"):
        transcribe("--list", audio / "nowhere")
    (audio / "list").write_text("-\n")
    with pytest.raises(InputError, match="which only the command line may name"):
        transcribe("--list", audio / "list")


def test_standard_input(transcribe, audio, monkeypatch):
    data = (audio / "a.wav").read_bytes()

    def pipe(data):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    _, expected, _ = transcribe(audio / "a.wav")
    pipe(data)
    assert transcribe("-")[:2] == (0, expected)
    pipe(data)
    assert transcribe("-", "-o", audio / "out")[0] == 0
    assert names(audio / "out") == ["stdin.txt"]
    pipe(b"")
    code, _, err = transcribe("-", audio / "b.wav")
    assert code == 1 and "transcribe: standard input: empty (0 bytes)" in err
    with pytest.raises(InputError, match="named twice"):
        transcribe("-", "-")


def test_no_standard_input(transcribe, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputError, match="nothing is piped in"):
        transcribe("-")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full here")
def test_no_space_for_standard_input(audio, monkeypatch):
    stdin = io.TextIOWrapper(io.BytesIO((audio / "a.wav").read_bytes()))
    monkeypatch.setattr(sys, "stdin", stdin)
    (audio / "spool").mkdir()
    (audio / "spool" / "stdin").symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"standard input: cannot be kept in .*\(No space left"):
        collect(["-"], audio / "spool")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe(transcribe, audio):
    """What <(command) of bash gives."""
    _, expected, _ = transcribe(audio / "a.wav")
    os.mkfifo(audio / "pipe")
    data = (audio / "a.wav").read_bytes()
    writer = threading.Thread(target=(audio / "pipe").write_bytes, args=[data])
    writer.start()
    assert transcribe(audio / "pipe")[:2] == (0, expected)
    writer.join()


def test_folders_below(transcribe, audio):
    (audio / "bad.wav").unlink()
    (audio / "deep").mkdir()
    (audio / "a.wav").rename(audio / "deep" / "c.WAV")
    assert len(transcribe(audio)[1]) == 1
    assert len(transcribe(audio, "--recursive")[1]) == 2


def test_quiet_suppresses_notes_of_a_folder_but_not_warnings(transcribe, audio, monkeypatch):
    monkeypatch.setattr(Quiet, "on", True)
    (audio / "notes.txt").touch()
    assert "left out" not in transcribe(audio)[2]
    (audio / "gone.wav").symlink_to("nowhere")
    assert "gone.wav (cannot be read)" in transcribe(audio)[2]


def test_a_data_directory_of_recordings(transcribe, tmp_path):
    data = data_directory(tmp_path / "data")
    code, out, _ = transcribe("--data", data, "-o", tmp_path / "out", "-f", "json")
    assert code == 0 and out == []
    assert names(tmp_path / "out") == ["r1.json", "r2.json"]
    assert json.loads((tmp_path / "out" / "r2.json").read_text())["duration"] == 2.0


def test_a_data_directory_of_segments(transcribe, tmp_path):
    segments = "s-1.0-a r2 0.5 1.5\ns-1.0-b r2 1.5 2.2\ns-2 r1 5 6\ns-3 r2 1.0 -1\n"
    data = data_directory(tmp_path / "data", segments)
    code, _, err = transcribe("--data", data, "-o", tmp_path / "out", "-f", "json")
    assert code == 1 and "s-2: asked for 5 s to 6 s" in err  # the others are there
    assert names(tmp_path / "out") == ["s-1.0-a.json", "s-1.0-b.json", "s-3.json"]
    assert json.loads((tmp_path / "out" / "s-1.0-b.json").read_text())["duration"] == 0.5
    assert json.loads((tmp_path / "out" / "s-3.json").read_text())["duration"] == 1.0


@pytest.mark.parametrize(
    ("segments", "message"),
    [("s r1 0\n", "segments:1: .*expected"), ("s r3 0 1\n", "segments:1: r3 is not in wav.scp")],
)
def test_damaged_segments(transcribe, tmp_path, segments, message):
    with pytest.raises(InputError, match=message):
        transcribe("--data", data_directory(tmp_path / "data", segments))


def test_an_empty_data_directory(transcribe, tmp_path):
    (tmp_path / "wav.scp").touch()
    with pytest.raises(InputError, match=r"wav\.scp: empty"):
        transcribe("--data", tmp_path)


def test_a_folder_is_a_data_directory_only_with_the_option(transcribe, tmp_path):
    data = data_directory(tmp_path / "data")
    (data / "wav.scp").write_text(f"r3 touch {tmp_path}/ran; cat {data}/r1.wav |\n")
    code, out, err = transcribe(data)
    assert code == 0
    assert [Path(line.split("\t")[0]).name for line in out] == ["r1.wav", "r2.wav"]
    assert f"--data {data}" in err
    assert not (tmp_path / "ran").exists()
    (data / "r2.wav").unlink()
    code, out, _ = transcribe(data / "r1.wav", "--data", data)
    assert [Path(line.split("\t")[0]).name for line in out] == ["r1.wav", "r3"]
    assert (tmp_path / "ran").exists()
    (data / "r1.wav").unlink()
    with pytest.raises(InputError, match=f"no audio file.*--data {data}"):
        transcribe(data)


def test_ids_never_become_folders(transcribe, tmp_path):
    data = data_directory(tmp_path / "data")
    ids = ("../../up", "..", "/root")
    (data / "wav.scp").write_text("".join(f"{name} {data}/r1.wav\n" for name in ids))
    assert transcribe("--data", data, "-o", tmp_path / "out" / "deep")[0] == 0
    assert names(tmp_path / "out" / "deep") == ["...txt", ".._.._up.txt", "_root.txt"]
    assert names(tmp_path) == ["data", "exp", "out"]


def test_transcripts_beside_the_audio_are_not_replaced(transcribe, audio):
    (audio / "bad.wav").unlink()
    (audio / "a.txt").write_text("by hand")
    (audio / "exp" / "link").symlink_to(audio)
    for arguments in (
        [audio, "-o", audio],
        [audio, "-o", audio / "exp" / "link"],
        [audio / "a.wav", "-o", audio / ".." / audio.name],
    ):
        with pytest.raises(InputError, match=r"a\.txt: exists beside the audio"):
            transcribe(*arguments)
    assert transcribe(audio, "-o", audio, "--skip-existing")[0] == 0
    assert (audio / "a.txt").read_text() == "by hand"
    assert names(audio) == ["a.txt", "a.wav", "b.txt", "b.wav", "exp"]
    assert transcribe(audio, "-o", audio, "-f", "srt")[0] == 0  # new names replace nothing
    for _ in range(2):
        assert transcribe(audio, "-o", audio / "out")[0] == 0  # its own results may be replaced


def test_transcripts_beside_audio_of_subfolders_are_not_replaced(transcribe, audio):
    (audio / "bad.wav").unlink()
    folder = audio / "deep" / "sub"
    folder.mkdir(parents=True)
    shutil.copy(audio / "a.wav", folder)
    (folder / "a.txt").write_text("by hand")
    (audio / "exp" / "list").write_text(f"{audio}/deep\n")
    with pytest.raises(InputError, match=r"sub/a\.txt: exists beside the audio"):
        transcribe("--list", audio / "exp" / "list", "--recursive", "-o", audio / "deep")


def test_results_never_replace_settings_or_the_model(transcribe, audio, model):
    (audio / "a.txt").write_text("beam: 2\n")
    for options in (["--config", audio / "a.txt"], ["--hotwords", audio / "a.txt"]):
        with pytest.raises(InputError, match=r"a\.txt: is also read"):
            transcribe(audio / "a.wav", *options, "-o", audio)
    shutil.copy(find_model(model), audio / "a.txt")
    with pytest.raises(InputError, match=r"a\.txt: is also read"):
        main([str(audio / "a.wav"), "--model", str(audio / "a.txt"), "-o", str(audio)])


def test_results_never_replace_inputs(transcribe, audio):
    (audio / "a.wav").rename(audio / "a.txt")  # audio whatever it is called
    with pytest.raises(InputError, match="is also read"):
        transcribe(audio / "a.txt", "-o", audio)
    (audio / "b.txt").write_text(f"{audio}/b.wav\n")
    (audio / "out").mkdir()
    (audio / "out" / "b.txt").hardlink_to(audio / "b.txt")
    with pytest.raises(InputError, match="is also read"):
        transcribe("--list", audio / "b.txt", "-o", audio / "out")


def test_a_folder_that_cannot_be_made_is_refused(transcribe, audio):
    (audio / "loop").symlink_to("loop")
    for folder in ("b.wav", "loop"):
        with pytest.raises(InputError, match="cannot write"):
            transcribe(audio / "a.wav", "-o", audio / folder)
    for arguments in ([audio / "a.wav", "-o", ""], [""], ["--data", ""]):
        with pytest.raises(InputError, match=r"an empty (name|value)"):
            transcribe(*arguments)


def test_a_long_name_is_cut_with_a_note(transcribe, audio):
    name = "語" * 83
    (audio / "a.wav").rename(audio / f"{name}.wav")
    call = (audio / f"{name}.wav", "-f", "textgrid", "-o", audio / "out")
    code, _, err = transcribe(*call)
    (result,) = names(audio / "out")
    assert code == 0 and result in err and result.startswith("語" * 75)
    assert transcribe(*call, "--skip-existing")[0] == 0
    assert names(audio / "out") == [result]


def test_transcribing_fails_when_nothing_reads_standard_output(transcribe, audio, monkeypatch):
    class Unread(io.StringIO):
        gone = False

        def flush(self):
            self.gone = True

    (audio / "bad.wav").unlink()
    monkeypatch.setattr(sys, "stdout", Unread())
    code, _, err = transcribe(audio)
    assert code == 1
    assert "2 texts are missing" in err
    with pytest.raises(InputError, match="write files with -o FOLDER"):
        transcribe(audio)
    assert transcribe(audio, "-o", audio / "out")[0] == 0


def test_each_channel_by_itself(transcribe, tmp_path):
    generator = np.random.default_rng(0)
    both = generator.normal(0, 0.1, (RATE, 2))
    soundfile.write(tmp_path / "call.wav", both, RATE)
    for channel in (0, 1):
        soundfile.write(tmp_path / f"{channel}.wav", both[:, channel], RATE)
    files = [tmp_path / "0.wav", tmp_path / "1.wav"]
    alone = [line.split("\t")[1] for line in transcribe(*files)[1]]
    code, out, _ = transcribe(tmp_path / "call.wav", "--channels", "each")
    assert code == 0
    assert out == [f"{tmp_path}/call.wav channel {i + 1}\t{alone[i]}" for i in (0, 1)]
    transcribe(tmp_path / "call.wav", "--channels", "each", "-o", tmp_path / "out")
    assert names(tmp_path / "out") == ["call.ch1.txt", "call.ch2.txt"]
    for kind in ("ctm", "stm"):
        options = ("--channels", "each", "-f", kind, "--length_bonus", "5")
        _, out, _ = transcribe(tmp_path / "call.wav", *options)
        assert {tuple(line.split()[:2]) for line in out} == {("call", "1"), ("call", "2")}
    (tmp_path / "bad.wav").write_text("no audio")
    code, _, err = transcribe(tmp_path / "bad.wav", files[0], "--channels", "each")
    assert code == 1 and "bad.wav: a text file" in err
    with pytest.raises(InputError, match="whose channels are not known"):
        transcribe("--data", data_directory(tmp_path / "data"), "--channels", "each")


def test_nothing_of_a_file_name_reaches_a_shell(transcribe, audio):
    name = audio / f"touch {audio.name} |"
    name.write_bytes((audio / "a.wav").read_bytes())
    assert transcribe(name)[0] == 0
    (item,) = collect([str(name)], audio)
    assert not item.clip.command


def test_existing_results_are_skipped(transcribe, audio):
    (audio / "bad.wav").unlink()
    out = audio / "out"
    out.mkdir()
    (out / "a.txt").write_text("mine")
    code, _, err = transcribe(audio, "-o", out, "--skip-existing")
    assert code == 0 and "1 of 2 inputs already have results" in err and "1 of 1 files" in err
    assert (out / "a.txt").read_text() == "mine" and names(out) == ["a.txt", "b.txt"]
    assert "2 of 2 inputs" in transcribe(audio, "-o", out, "--skip-existing")[2]
    with pytest.raises(InputError, match="needs -o FOLDER"):
        transcribe(audio, "--skip-existing")


def test_a_result_beside_the_audio_is_kept_if_another_format_is_missing(transcribe, audio):
    (audio / "a.txt").write_text("mine")
    call = (audio / "a.wav", "-o", audio, "-f", "txt,json")
    with pytest.raises(InputError, match="or keep it with --skip-existing"):
        transcribe(*call)
    with pytest.raises(InputError, match=r"remove the file, or choose another folder with -o$"):
        transcribe(*call, "--skip-existing")
    assert (audio / "a.txt").read_text() == "mine"


def test_strict_counts_earlier_flags(transcribe, audio):
    (audio / "bad.wav").unlink()
    options = ["-o", audio / "out", "-f", "json", "--strict", "--skip-existing"]
    flags = [bool(json.loads(transcribe(audio, "-f", "json")[1][i])["flags"]) for i in (0, 1)]
    assert any(flags)  # a model that babbles
    assert transcribe(audio, *options)[0] == 1
    code, _, err = transcribe(audio, *options)
    assert code == 1 and "2 of 2 inputs already have results" in err
    for file in (audio / "out").iterdir():
        file.write_text(json.dumps({**json.loads(file.read_text()), "flags": []}))
    assert transcribe(audio, *options)[0] == 0
    with pytest.raises(InputError, match="--strict with --skip-existing: needs -f json"):
        transcribe(audio, "-o", audio / "out", "--strict", "--skip-existing")
    (audio / "out" / "a.json").write_text("[]")
    with pytest.raises(InputError, match=r"a\.json: not a result of `asr transcribe`"):
        transcribe(audio, *options)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here that is always full")
def test_a_full_disk_behind_standard_output(model, audio):
    command = [
        sys.executable,
        "-m",
        "asr",
        "transcribe",
        str(audio / "a.wav"),
        "--vad",
        "fixed",
    ]
    with open("/dev/full", "wb") as full:
        run = subprocess.run([*command, "--model", model], stdout=full, stderr=subprocess.PIPE)
    assert run.returncode == 2
    assert b"No space left on device" in run.stderr and b"Traceback" not in run.stderr


def test_a_negative_number_of_threads(transcribe, audio):
    with pytest.raises(InputError, match="threads: -1, expected"):
        transcribe(audio / "a.wav", "--threads", "-1")


def test_an_interruption_keeps_the_results(transcribe, audio, monkeypatch):
    true, files = cli.render, [audio / "a.wav", audio / "b.wav"]

    def interrupted(transcript, kind, name, *more):
        if transcript.duration_s == 0.8:
            raise KeyboardInterrupt
        return true(transcript, kind, name)

    monkeypatch.setattr(cli, "render", interrupted)
    with pytest.raises(
        KeyboardInterrupt, match=r"1 of 2 files written; continue with --skip-existing"
    ):
        transcribe(*files, "-o", audio / "out")
    assert names(audio / "out") == ["a.txt"]
    monkeypatch.setattr(cli, "render", true)
    assert transcribe(*files, "-o", audio / "out", "--skip-existing")[0] == 0
    assert names(audio / "out") == ["a.txt", "b.txt"]


def test_a_warning_names_silent_files(transcribe, tmp_path):
    soundfile.write(tmp_path / "silence.wav", np.zeros(2 * RATE), RATE)
    code, out, err = transcribe(tmp_path / "silence.wav")
    assert code == 0 and out == [""]
    assert "silence.wav: no speech found" in err and "kept 0.0 of 2.0 s" in err
    options = ("--length_bonus", "-99")  # no character is worth it
    for vad in ("fixed", "none"):
        code, out, err = transcribe(tmp_path / "silence.wav", "--vad", vad, *options)
        assert out == [""] and "silence.wav: the model wrote nothing" in err


def test_segmentation_options(transcribe, tmp_path):
    generator = np.random.default_rng(0)
    parts = [generator.normal(0, 0.1, 16 * RATE), np.zeros(2 * RATE)] * 4
    soundfile.write(tmp_path / "long.wav", np.concatenate(parts), RATE)

    def segments(*arguments):
        code, out, err = transcribe(tmp_path / "long.wav", "-f", "json", *arguments)
        found = json.loads(out[0])["segments"] if out else []
        return code, [round(s["end"] - s["start"]) for s in found], err

    code, lengths, err = segments()
    assert code == 0 and len(lengths) == 8 and max(lengths) <= 15
    assert "kept 66.2 of 72.0 s of audio" in err
    assert segments("--longest_s", "20")[1] == [16, 17, 17, 17]
    code, lengths, err = segments("--vad", "fixed")
    assert sum(lengths) in range(70, 75) and "kept 72.0 of 72.0 s" in err
    code, lengths, err = segments("--vad", "none")
    assert code == 1 and "long.wav: longer than 60 s" in err
    with pytest.raises(InputError, match=r"longest_s = 1\.0, expected 2 to 60"):
        segments("--longest_s", "1")


def test_the_progress_bar_is_for_terminals(audio):
    items = collect([str(audio / "a.wav"), str(audio / "bad.wav")], Path())
    assert sum(map(cli._seconds, items)) == 0.5
    with cli._progress(items) as (bar, task):
        assert bar.disable
        bar.advance(task, 0.5)
