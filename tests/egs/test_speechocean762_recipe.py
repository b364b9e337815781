"""speechocean762 as published: tables with tabs, relative paths, digits as speakers."""

import os
import shutil
import subprocess
import tarfile
import threading
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.corpus.tables import read_table
from asr.corpus.validate import validate
from asr.errors import InputError

REPOSITORY = Path(__file__).resolve().parents[2]
REAL = REPOSITORY.parent / "shared" / "corpora" / "speechocean762"
TRAIN = {"0001": ("6", "m"), "0036": ("21", "f"), "0075": ("6", "m"), "7000": ("30", "f")}
TEST = {"0003": ("7", "f")}


@pytest.fixture
def prepare(load_script):
    return load_script("speechocean762/local/prepare.py")


def write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def write_half(root: Path, half: str, speakers: dict[str, tuple[str, str]]) -> None:
    """Two utterances a speaker; the second has a word that only this speaker says."""
    names = {f"0{speaker}000{n}": speaker for speaker in speakers for n in (1, 2)}
    wavs = {name: f"WAVE/SPEAKER{spk}/{name}.WAV" for name, spk in names.items()}
    for path in wavs.values():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / path, np.zeros(3200, np.int16), 16000)
    own = {speaker: f"WORD{chr(65 + n)}" for n, speaker in enumerate(speakers)}
    texts = {n: "IT'S COLD" if n.endswith("1") else f"COLD {own[s]}" for n, s in names.items()}
    write(root / half / "text", [f"{name}\t{text}" for name, text in texts.items()])
    write(root / half / "wav.scp", [f"{name}\t{path}" for name, path in wavs.items()])
    write(root / half / "utt2spk", [f"{name} {speaker}" for name, speaker in names.items()])
    write(root / half / "spk2utt", [f"{s} 0{s}0001 0{s}0002" for s in speakers])
    write(root / half / "spk2age", [f"{s}\t{age}" for s, (age, _) in reversed(speakers.items())])
    write(root / half / "spk2gender", [f"{s}\t{gender}" for s, (_, gender) in speakers.items()])


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """The training half alone, in a folder with a space in its name."""
    root = tmp_path / "my corpora" / "speechocean762"
    write_half(root, "train", TRAIN)
    (root / "WAVE" / ".DS_Store").touch()
    return root


def test_sets(prepare, corpus, tmp_path, capsys):
    data = tmp_path / "data"
    assert prepare.main([str(corpus), str(data)]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        f"{data}/train: 8 utterances, 16 words, 4 speakers (2 adult f, 2 child m); "
        "0 transcripts normalised",
        f"{data}/train_nodev: 4 utterances, 8 words, 2 speakers (1 adult f, 1 child m)",
        f"{data}/train_dev: 4 utterances, 8 words, 2 speakers (1 adult f, 1 child m)",
        "dev speakers: 0036, 0075; 25.0 % of their words are new",
        f"test: not prepared, because {corpus}/test does not exist",
    ]
    assert "train: 8 utterances of 4 speakers; published: 2500 of 125" in said.err
    assert "not in the corpus: dev speakers 1012, 1042" in said.err
    for name in ("train", "train_dev", "train_nodev"):
        assert validate(data / name, audio=True) == []
    assert (data / "train_dev/text").read_text().splitlines() == [
        "0036-000360001 IT'S COLD",
        "0036-000360002 COLD WORDB",
        "0075-000750001 IT'S COLD",
        "0075-000750002 COLD WORDC",
    ]
    first = (data / "train_dev/wav.scp").read_text().splitlines()[0]
    assert first == f"0036-000360001 {corpus}/WAVE/SPEAKER0036/000360001.WAV"
    assert (data / "train_dev/spk2gender").read_text() == "0036 f\n0075 m\n"
    assert (data / "train_nodev/spk2age").read_text() == "0001 6\n7000 30\n"


def test_with_the_test_half(prepare, corpus, tmp_path, capsys):
    write_half(corpus, "test", TEST)
    prepare.main([str(corpus.parent), str(tmp_path / "data")])  # the folder above is found, too
    said = capsys.readouterr()
    assert "test: 2 utterances, 4 words, 1 speakers (1 child f)" in said.out
    assert "warning" not in said.err
    assert validate(tmp_path / "data/test") == []


def test_test_set_of_an_earlier_corpus_is_removed(prepare, corpus, tmp_path):
    (tmp_path / "data" / "test").mkdir(parents=True)
    prepare.main([str(corpus), str(tmp_path / "data")])
    assert not (tmp_path / "data" / "test").exists()


def test_shared_speakers_are_told(prepare, corpus, tmp_path, capsys):
    write_half(corpus, "test", TRAIN)
    prepare.main([str(corpus), str(tmp_path / "data")])
    assert "warning: these speakers are in both halves: 0001, 0036" in capsys.readouterr().err


def test_transcripts_are_normalised(prepare, corpus, tmp_path, capsys):
    text = corpus / "train" / "text"
    text.write_text(text.read_text().replace("IT'S COLD", "it\u2019s ice-cold.", 1), "utf-8")
    prepare.main([str(corpus), str(tmp_path / "data")])
    assert "1 transcripts normalised" in capsys.readouterr().out
    assert read_table(tmp_path / "data/train/text")["0001-000010001"] == "IT'S ICE COLD"


def test_carriage_returns(prepare, corpus, tmp_path):
    for path in (corpus / "train").iterdir():
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    prepare.main([str(corpus), str(tmp_path / "data")])
    assert validate(tmp_path / "data/train") == []


def without_last_line(text: str) -> str:
    return text[: text.rindex("\n", 0, -1) + 1]


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("text", without_last_line, r"text: no line for 070000002 \(1 missing\)"),
        ("wav.scp", lambda _: "", r"wav\.scp: no line for 000010001 \(8 missing\)"),
        ("utt2spk", without_last_line, r"utt2spk: no line for 070000002"),
        (
            "utt2spk",
            lambda t: t.replace("2 7000", "2"),
            "utt2spk: 070000002: '', expected one speaker",
        ),
        (
            "utt2spk",
            lambda t: t.replace("2 7000", "2 7000 0001"),
            "utt2spk: 070000002: '7000 0001', expected one speaker",
        ),
        (
            "spk2utt",
            lambda t: t.replace("070000002", "070000003"),
            "spk2utt: no line for 070000002",
        ),
        ("spk2utt", without_last_line, r"spk2utt: no line for 070000001 7000 \(2 missing\)"),
        ("spk2gender", without_last_line, "spk2gender: no line for 7000"),
        ("spk2age", lambda t: t.replace("30", "thirty"), "spk2age: 7000: 'thirty', expected years"),
        ("text", lambda t: t + t, r"text:9: 000010001 is there already"),
        ("text", lambda t: t.replace("\n", "\n\n", 1), "text:2: empty line"),
        ("text", lambda t: t.replace("COLD", "C\xd6LD", 1), r"text:1: byte 0xd6 is not UTF-8"),
        ("wav.scp", lambda t: t.replace(".WAV", ".WAV |", 1), r"wav\.scp: 000010001: a command"),
        ("wav.scp", lambda t: t.replace("WAVE", "WAVES", 1), r"000010001\.WAV: no such audio file"),
    ],
)
def test_damaged_tables(prepare, corpus, tmp_path, file, change, message):
    path = corpus / "train" / file
    path.write_text(change(path.read_text()), encoding="latin-1")
    with pytest.raises(InputError, match=message):
        prepare.main([str(corpus), str(tmp_path / "data")])
    assert not (tmp_path / "data").exists()


def test_missing_audio(prepare, corpus, tmp_path):
    (corpus / "WAVE/SPEAKER0001/000010002.WAV").unlink()
    with pytest.raises(InputError, match=r"000010002\.WAV: no such audio file"):
        prepare.main([str(corpus), str(tmp_path / "data")])


def test_missing_table(prepare, corpus, tmp_path):
    (corpus / "train/text").unlink()
    with pytest.raises(InputError, match="text: no such file; unpack the corpus again"):
        prepare.main([str(corpus), str(tmp_path / "data")])


def test_no_age_and_gender(prepare, corpus, tmp_path, capsys):
    (corpus / "train/spk2age").unlink()
    (corpus / "train/spk2gender").unlink()
    prepare.main([str(corpus), str(tmp_path / "data")])
    assert "4 speakers (4 of unknown age of unknown gender)" in capsys.readouterr().out


def test_surprising_ids(prepare, corpus, tmp_path):
    for path in (corpus / "train").iterdir():
        path.write_text(path.read_text().replace("70000", "7/$(x)é"), "utf-8")
    for path in (corpus / "WAVE").rglob("070000*"):
        target = corpus / "WAVE/SPEAKER7000" / path.name.replace("70000", "7/$(x)é")
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    prepare.main([str(corpus), str(tmp_path / "data")])
    assert validate(tmp_path / "data/train") == []
    names = read_table(tmp_path / "data/train/text")
    assert "7000-07_$(x)é002" in names


def test_without_dev_speakers(prepare, corpus, tmp_path):
    shutil.rmtree(corpus / "train")
    write_half(corpus, "train", TEST)
    with pytest.raises(InputError, match=r"its speakers are 0003 .*expected 0036, .* dev set"):
        prepare.main([str(corpus), str(tmp_path / "data")])


def test_not_a_corpus(prepare, tmp_path):
    with pytest.raises(InputError, match="no train/ in it; expected the unpacked corpus"):
        prepare.main([str(tmp_path), str(tmp_path / "data")])


@pytest.mark.skipif(not REAL.is_dir(), reason="speechocean762 is not on this machine")
def test_real_corpus(prepare, tmp_path, capsys):
    data = tmp_path / "data"
    prepare.main([str(REAL), str(data)])
    said = capsys.readouterr().out
    assert "train_dev: 200 utterances" in said
    ages, genders = (read_table(REAL / "train" / name) for name in ("spk2age", "spk2gender"))
    groups = Counter((int(ages[s]) >= 18, genders[s]) for s in prepare.DEV_SPEAKERS)
    assert groups == {(False, "m"): 3, (False, "f"): 2, (True, "f"): 3, (True, "m"): 2}
    train, dev = (set(read_table(data / n / "spk2utt")) for n in ("train_nodev", "train_dev"))
    assert dev == set(prepare.DEV_SPEAKERS)
    assert train.isdisjoint(dev)
    assert len(train) == 90


def run_recipe(egs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [egs / "speechocean762/run.sh", *arguments],
        cwd=egs.parent,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "no_proxy": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_recipe_downloads_and_prepares(recipes, corpus, tmp_path):
    write_half(corpus, "test", TEST)
    (tmp_path / "web").mkdir()
    with tarfile.open(tmp_path / "web" / "speechocean762.tar.gz", "w:gz") as tar:
        tar.add(corpus, "speechocean762")
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path / "web")
    handler.log_message = lambda *_: None
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        mirror = f"http://127.0.0.1:{server.server_port}"
        result = run_recipe(recipes, "--mirror", mirror, "--stop-stage", "2", "--nj", "1")
        server.shutdown()
    assert result.returncode == 0, result.stderr
    folder = recipes / "speechocean762"
    assert not (folder / "downloads/speechocean762.tar.gz").exists()
    assert (
        folder / "data/test/utt2num_frames"
    ).read_text() == "0003-000030001 18\n0003-000030002 18\n"
    assert (folder / "data/train_nodev/cmvn.ark").exists()
    assert (folder / "data/lang_char/tokens.txt").exists()
    again = run_recipe(recipes, "--stop-stage", "2")
    assert again.stdout.count("done already") == 4


def test_recipe_refuses(recipes, corpus):
    missing = run_recipe(recipes, "--corpus", str(corpus / "nowhere"))
    assert missing.returncode == 2
    assert "no such folder; expected train/, test/ and WAVE/" in missing.stderr
    no_model = run_recipe(recipes, "--corpus", str(corpus), "--init", "exp/none")
    assert no_model.returncode == 2
    assert "--init exp/none: not there" in no_model.stderr
    elsewhere = run_recipe(recipes, "--cmd-backend", "nonsense")
    assert elsewhere.returncode == 2
    assert "--cmd-backend nonsense: expected local, slurm or sge" in elsewhere.stderr
    named = run_recipe(recipes, "--corpus", str(corpus), "--init", "an4", "--stop-stage", "-1")
    assert named.returncode == 0


def test_recipe_checks_audio(recipes, corpus):
    wav = corpus / "WAVE/SPEAKER0001/000010001.WAV"
    wav.write_bytes(wav.read_bytes()[:3000])
    result = run_recipe(recipes, "--corpus", str(corpus))
    assert result.returncode == 2
    assert "000010001.WAV: cut short" in result.stderr
    assert "stage 0 (data) failed" in result.stderr
