import io
import json

import numpy as np
import pytest
import soundfile
from rich.console import Console

from asr.cli import main as asr
from asr.commands.data import main
from asr.config import FeatureConfig
from asr.corpus.datadir import DataDir
from asr.corpus.feature_statistics import gather
from asr.corpus.stats import describe, show, suspicious
from asr.corpus.tables import read_clips, read_table
from asr.errors import InputError

VERBS = ("validate", "fix", "stats", "subset", "combine", "split", "import")


def test_alone_it_lists_the_verbs(capsys):
    assert main([]) == 2
    listed = capsys.readouterr().out
    assert [verb for verb in VERBS if f"\n  {verb} " in listed] == list(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_example(verb, capsys):
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    assert end.value.code == 0
    assert f"examples:\n  asr data {verb} " in capsys.readouterr().out


def test_validate_prints_counts(make, capsys):
    path = make(utt2dur="s1-a 1800\ns1-b 1800\ns2-a 1800\n")
    assert main(["validate", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: valid: 3 utterances, 2 speakers, 1.50 hours\n"


def test_validate_counts_hours_of_segments(segmented, capsys):
    (segmented / "utt2dur").unlink()
    (segmented / "reco2dur").unlink()
    (segmented / "segments").write_text("s1-a r1 0 3600\ns1-b r1 3600 7200\ns2-a r2 0 1800\n")
    assert main(["validate", str(segmented)]) == 0
    assert capsys.readouterr().out.endswith("3 utterances, 2 speakers, 2.50 hours\n")


def test_validate_prints_every_problem(make, capsys):
    path = make(text="s1-a\ns1-b\ns2-a\n")
    assert main(["validate", str(path)]) == 2
    output = capsys.readouterr()
    *problems, last = output.err.splitlines()
    assert [problem.split(": ")[0] for problem in problems] == [
        f"{path}/text:{n}" for n in (1, 2, 3)
    ]
    assert last.startswith(f"3 problems in {path}; `asr data fix {path}` fixes")
    assert output.out == ""


def test_validate_takes_kaldi_s_options(make, capsys):
    path = str(make(text=None, wav_scp=None))
    assert main(["validate", "--no-text", "--no-wav", "--no-feats", path]) == 0
    assert main(["validate", "--no-text", "--no-wav", "--feats", path]) == 2
    assert main(["validate", "--no-wav", path]) == 2


def test_validate_warns_of_one_speaker(make, capsys):
    path = make(utt2spk="s1-a s1\ns1-b s1\n", spk2utt="s1 s1-a s1-b\n", text="s1-a A\ns1-b B\n")
    (path / "wav.scp").write_text("s1-a x |\ns1-b x |\n")
    assert main(["validate", str(path)]) == 0
    assert "warning: " in capsys.readouterr().err


def test_validate_opens_audio(make, wav, capsys):
    wav.write_bytes(wav.read_bytes()[:1000])
    path = str(make())
    assert main(["validate", path]) == 0
    assert main(["validate", path, "--check-audio"]) == 2
    assert "cut short" in capsys.readouterr().err


def test_fix_says_what_is_left(make, capsys):
    path = make(text="s2-a <s>\ns1-b B\ns1-a A\n")
    assert main(["fix", str(path)]) == 2
    output = capsys.readouterr()
    assert "kept 3 of 3 utterances" in output.out
    assert "text:3: s2-a: <s> must not be" in output.err
    assert f"1 problem in {path} could not be fixed" in output.err
    (path / "text").write_text("s1-a A\ns1-b B\ns2-a C\n")
    assert main(["fix", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: nothing to change\n"


def test_subset(make, tmp_path, capsys):
    source, out = str(make()), tmp_path / "out"
    speakers, empty = tmp_path / "speakers", tmp_path / "empty"
    speakers.write_text("s2\n\n")
    empty.write_text("\n")
    for options, expected in (
        (["--speakers", str(speakers)], ["s2-a"]),
        (["--utts", f"{source}/text"], ["s1-a", "s1-b", "s2-a"]),
        (["--first", "1"], ["s1-a"]),
        (["--last", "1"], ["s2-a"]),
        (["--per-speaker", "1"], ["s1-a", "s2-a"]),
        (["--random", "3", "--seed", "5"], ["s1-a", "s1-b", "s2-a"]),
    ):
        assert main(["subset", source, str(out), *options]) == 0
        assert [u.id for u in DataDir.load(out).utterances] == expected
    with pytest.raises(InputError, match="no utterance was chosen"):
        main(["subset", source, str(out), "--utts", str(empty)])
    for number in ("0", "-1"):
        with pytest.raises(InputError, match=f"--first: {number}, expected 1 or more"):
            main(["subset", source, str(out), "--first", number])


def test_split_and_combine(make, tmp_path, capsys):
    source, out = make(), tmp_path / "out"
    assert main(["split", str(source), "2"]) == 0
    parts = capsys.readouterr().out.splitlines()
    assert parts == [f"{source}/split2/1", f"{source}/split2/2"]
    assert main(["combine", str(out), *parts]) == 0
    assert capsys.readouterr().out == f"{out}: 3 utterances\n"


def test_combine_reports_the_files_it_left_out(make, tmp_path, capsys):
    first, second = make("a", spk2gender="s1 f\ns2 m\n"), make("b")
    assert main(["combine", str(tmp_path / "out"), str(first), str(second)]) == 0
    assert "left out, because some directories lack them: spk2gender" in capsys.readouterr().err


def test_combine_of_one_directory_names_the_order(make, tmp_path):
    with pytest.raises(InputError, match="expected at least two: OUT IN IN"):
        main(["combine", str(make("a")), str(make("b"))])


def test_normalize_warns_of_what_is_not_spoken(wav, tmp_path, capsys):
    table, out = tmp_path / "t.csv", str(tmp_path / "out")
    rows = ('"a & b, 7% (laughs)",a,s', "ten,b,s", "<unk> x,c,t")
    table.write_text("".join(["audio,text,id,speaker\n", *(f"{wav},{row}\n" for row in rows)]))
    assert main(["import", out, "--table", str(table), "--normalize", "librispeech"]) == 0
    first, second, third = capsys.readouterr().err.splitlines()
    assert first.startswith(f'warning: 1 transcript with digits, the first ("7") in {table}:2; ')
    assert second.startswith(f'warning: 1 transcript with symbols, the first ("&") in {table}:2; ')
    assert third.startswith('warning: 2 transcripts with text in brackets, the first ("(laughs)")')
    assert main(["import", f"{out}2", "--kaldi", out, "--normalize", "librispeech"]) == 0
    assert f'the first ("7") in {out}/text: s-a; write' in capsys.readouterr().err
    assert main(["import", f"{out}3", "--table", str(table)]) == 0
    assert capsys.readouterr().err == ""


def test_import_and_normalize(wav, tmp_path, capsys):
    table, out = tmp_path / "t.csv", tmp_path / "out"
    table.write_text(f"path,text,speaker\n{wav},it's well-known.,s\n")
    arguments = ["import", str(out), "--table", str(table), "--audio-column", "path"]
    assert main([*arguments, "--normalize", "librispeech"]) == 0
    assert capsys.readouterr().out == f"{out}: 1 utterance, 1 speaker\n"
    assert read_table(out / "text") == {"s-a": "IT'S WELL KNOWN"}
    table.write_text(f"path,text\n{wav},other\n")
    assert main(arguments) == 0
    assert f"{out} held 1 other utterance; its former files" in capsys.readouterr().err
    with pytest.raises(InputError, match="--normalize: invalid choice: 'x'"):
        main([*arguments, "--normalize", "x"])


def test_the_same_import_again_loses_nothing(wav, tmp_path, capsys):
    (table := tmp_path / "t.csv").write_text(f"audio,text\n{wav},one\n")
    for _ in range(2):
        assert main(["import", str(tmp_path / "out"), "--table", str(table)]) == 0
        assert "former files" not in capsys.readouterr().err
        gather(tmp_path / "out", FeatureConfig())
    assert not (tmp_path / "out" / ".backup").exists()


@pytest.mark.parametrize(
    ("way", "option"),
    [
        ("--table", "--speaker-from folder"),
        ("--table", "--root corpus"),
        ("--folder", "--audio-column path"),
        ("--kaldi", "--speaker-from none"),
    ],
)
def test_import_refuses_options_of_another_way(tmp_path, way, option):
    with pytest.raises(InputError, match=f"{option.split()[0]}: only for --"):
        main(["import", str(tmp_path / "out"), way, str(tmp_path), *option.split()])


def test_import_reports_lists_that_differ(make, tmp_path, capsys):
    source, out = make(text="s1-a ONE\ns2-a FOUR\n"), tmp_path / "out"
    assert main(["import", str(out), "--kaldi", str(source)]) == 1
    assert f"{out}/utt2spk:2: s1-b: no line in text" in capsys.readouterr().err
    assert main(["fix", str(out)]) == 0
    assert main(["validate", str(out)]) == 0


def test_bad_input_ends_with_2(tmp_path, capsys):
    assert asr(["data", "stats", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err


# -- stats -----------------------------------------------------------------------------------


def test_stats_in_json(segmented, capsys):
    assert main(["stats", str(segmented), "--json"]) == 0
    stats = json.loads(capsys.readouterr().out)
    assert (stats["utterances"], stats["speakers"], stats["words"]) == (3, 2, 4)
    assert stats["hours"] == pytest.approx(3.0 / 3600)
    assert stats["vocabulary"] == 4
    assert stats["characters"] == list(" EFHNORTUW")
    assert stats["duration_s"]["median"] == 1.0
    assert (stats["duration_s"]["min"], stats["duration_s"]["max"]) == (0.8, 1.2)
    assert stats["characters_per_utterance"]["max"] == len("TWO THREE")
    assert stats["words_per_utterance"]["max"] == 2
    assert stats["fastest"]["s1-b"] == pytest.approx(9 / 1.2)
    assert list(stats["longest"]) == ["s1-b", "s2-a", "s1-a"]
    assert list(stats["shortest"]) == ["s1-a", "s2-a", "s1-b"]
    assert sum(count for _, _, count in stats["histogram_s"]) == 3


def test_a_segment_to_the_end_of_its_recording_has_its_own_duration(segmented, wav, capsys):
    (segmented / "utt2dur").unlink()
    (segmented / "segments").write_text("s1-a r1 0.0 0.8\ns1-b r1 0.8 -1\ns2-a r2 0.5 1.5\n")
    assert main(["stats", str(segmented), "--json"]) == 0
    stats = json.loads(capsys.readouterr().out)
    assert stats["duration_s"]["max"] == pytest.approx(1.2)  # 0.8 to 2.0


def test_a_segment_with_a_channel_is_refused(segmented):
    """Otherwise the channels of the recording would be mixed."""
    (segmented / "segments").write_text("s1-a r1 0.0 0.8 1\n")
    with pytest.raises(InputError, match=r'segments:1: "r1 0\.0 0\.8 1", expected'):
        read_clips(segmented)


@pytest.mark.parametrize("verb", ["subset", "combine", "shard", "import"])
def test_an_empty_name_is_no_folder_to_write(make, tmp_path, monkeypatch, verb):
    path = make()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    arguments = {
        "subset": [str(path), "", "--first", "1"],
        "combine": ["", str(path), str(path)],
        "shard": [str(path), "-o", ""],
        "import": ["", "--kaldi", str(path)],
    }
    with pytest.raises(InputError, match=r"empty (name|value)"):
        main([verb, *arguments[verb]])
    assert not list((tmp_path / "here").iterdir())


def test_durations_come_from_audio_if_they_must(make, tmp_path):
    long = tmp_path / "long.wav"
    soundfile.write(long, np.zeros(48000), 16000)
    path = make()
    (path / "wav.scp").write_text(f"s1-a {long}\ns1-b {long}\ns2-a {long}\n")
    assert describe(DataDir.load(path))["duration_s"]["median"] == 3.0
    (path / "wav.scp").write_text(f"s1-a {long}\ns1-b cat {long} |\ns2-a {long}\n")
    with pytest.raises(InputError, match=r"s1-b is a command, .* `asr features"):
        describe(DataDir.load(path))


def test_a_transcript_of_other_audio_is_suspicious():
    rates = {f"u{n}": 10.0 + 0.1 * n for n in range(-10, 11)} | {"short": 1.0, "long": 99.0}
    assert list(suspicious(rates)) == ["short", "long"]
    assert suspicious({"a": 1.0, "b": 1.0, "c": 1.0}) == {}
    assert suspicious({}) == {}
    even = {f"u{n}": 4.5 + 0.01 * n for n in range(-7, 8)} | {"a": 3.6, "b": 5.7, "c": 1.5}
    assert list(suspicious(even)) == ["c"]


def test_stats_of_durations_that_differ_by_rounding_errors(segmented):
    (segmented / "utt2dur").unlink()
    (segmented / "segments").write_text("s1-a r1 0.0 0.2\ns1-b r1 0.1 0.3\ns2-a r2 0.1 0.3\n")
    bins = describe(DataDir.load(segmented))["histogram_s"]
    assert sum(count for _, _, count in bins) == 3


def test_stats_for_people(segmented):
    output = io.StringIO()
    show(describe(DataDir.load(segmented)), Console(width=100, file=output))
    text = output.getvalue()
    assert "3 utterances, 2 speakers" in text
    assert "0.80 to   0.83 s █" in text
    assert "longest: s1-b (1.20 s), s2-a (1.00 s), s1-a (0.80 s)" in text


def test_stats_without_text(make):
    output = io.StringIO()
    data = DataDir.load(make(text=None, utt2dur="s1-a 2\ns1-b 2\ns2-a 2\n"), text=False)
    show(describe(data), Console(width=100, file=output))
    assert "0 words" in output.getvalue()
    assert "characters per second" not in output.getvalue()
