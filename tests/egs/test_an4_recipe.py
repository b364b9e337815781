"""AN4 in its distributions: SPHERE and raw, both byte orders, with and without its test half."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.corpus.validate import validate
from asr.errors import InputError

REPOSITORY = Path(__file__).resolve().parents[2]
SPEAKERS = [f"f{a}{b}n" for a in "abcd" for b in "ab"] + ["mxxn"]


@pytest.fixture
def prepare(load_script):
    return load_script("an4/local/prepare.py")


def speech(seed: int) -> np.ndarray:
    """Samples (N,) as smooth as speech: noise below 1 kHz, with some hiss."""
    noise = np.random.default_rng(seed).normal(size=1800)
    smooth = np.convolve(noise, np.hanning(24), mode="same") * 800
    return (smooth + np.random.default_rng(seed).normal(size=1800) * 20).astype(np.int16)


def write_audio(stem: Path, samples: np.ndarray, kind: str) -> None:
    stem.parent.mkdir(parents=True, exist_ok=True)
    if kind == "sph":
        with open(stem.with_name(stem.name + ".sph"), "wb") as file:
            soundfile.write(file, samples, 16000, format="NIST", subtype="PCM_16", endian="BIG")
        return
    order = {"big": ">i2", "little": "<i2"}[kind]
    stem.with_name(stem.name + ".raw").write_bytes(samples.astype(order).tobytes())


def write_half(root: Path, half: str, folder: str, names: list[str], kind: str, line: str) -> None:
    (root / "etc").mkdir(parents=True, exist_ok=True)
    ids = [f"{folder}/{name.split('-')[1]}/{name}" for name in names]
    (root / "etc" / f"an4_{half}.fileids").write_text("".join(f"{i}\n" for i in ids))
    (root / "etc" / f"an4_{half}.transcription").write_text(
        "".join(line.format(words="GO  TWO", id=name) + "\n" for name in names)
    )
    for seed, path in enumerate(ids):
        write_audio(root / "wav" / path, speech(seed), kind)


def make_an4(root: Path, kind: str) -> Path:
    """103 training recordings of nine speakers, in the order of prompts as published."""
    names = [f"an{n}-{SPEAKERS[n // 12]}-b" for n in range(103)]
    write_half(root, "train", "an4_clstk", names, kind, "<s> {words} </s> ({id})")
    return root


@pytest.mark.parametrize("kind", ["big", "little", "sph"])
def test_distributions_give_the_same(prepare, tmp_path, capsys, kind):
    root = make_an4(tmp_path / "an4", kind)
    data = tmp_path / "data"
    assert prepare.main([str(root), str(data)]) == 0
    said = capsys.readouterr().out
    expected = {"sph": "NIST SPHERE"}.get(kind, f"raw samples, {kind}-endian (35 of 35")
    assert expected in said
    assert "test: not prepared, missing:" in said
    assert "train_nodev: 3 utterances, 6 words" in said
    for name in ("train_dev", "train_nodev"):
        assert validate(data / name) == []
    utterance, path = (data / "train_dev" / "wav.scp").read_text().splitlines()[0].split()
    assert utterance == "faan-an0-b"
    samples, rate = soundfile.read(path, dtype="int16")
    assert rate == 16000
    np.testing.assert_array_equal(samples, speech(0))


def test_split_is_the_first_hundred_by_speaker(prepare, tmp_path):
    prepare.main([str(make_an4(tmp_path / "an4", "big")), str(tmp_path / "data")])
    dev = [line.split()[0] for line in (tmp_path / "data/train_dev/text").read_text().splitlines()]
    rest = [
        line.split()[0] for line in (tmp_path / "data/train_nodev/text").read_text().splitlines()
    ]
    assert len(dev) == 100
    assert dev + rest == sorted(dev + rest)
    assert rest == ["mxxn-an97-b", "mxxn-an98-b", "mxxn-an99-b"]
    assert (tmp_path / "data/train_dev/text").read_text().splitlines()[0] == "faan-an0-b GO TWO"


def test_test_half_has_bare_transcripts(prepare, tmp_path, capsys):
    root = make_an4(tmp_path / "an4", "big")
    names = [f"an{n}-ftst-b" for n in range(3)]
    write_half(root, "test", "an4test_clstk", names, "big", "{words} ({id})")
    prepare.main([str(tmp_path), str(tmp_path / "data")])  # the folder above is found, too
    assert "test: 3 utterances, 6 words" in capsys.readouterr().out
    assert (tmp_path / "data/test/text").read_text().splitlines()[2] == "ftst-an2-b GO TWO"
    assert validate(tmp_path / "data/test") == []


def test_the_test_set_of_an_earlier_corpus_is_renamed(prepare, tmp_path, capsys):
    data = tmp_path / "data"
    (data / "test").mkdir(parents=True)
    (data / "test" / "text").touch()
    prepare.main([str(make_an4(tmp_path / "an4", "big")), str(data)])
    assert not (data / "test").exists()
    (aside,) = data.glob("test.*")
    assert (aside / "text").is_file()
    found = f"{data}/test: of another corpus, renamed to {aside.name}"
    assert found in capsys.readouterr().out


def test_missing_audio_is_told(prepare, tmp_path):
    root = make_an4(tmp_path / "an4", "big")
    (root / "wav/an4_clstk/faan/an0-faan-b.raw").unlink()
    with pytest.raises(InputError, match=r"an4_train\.fileids:1: no audio file"):
        prepare.main([str(root), str(tmp_path / "data")])


def test_mixed_byte_orders_are_refused(prepare, tmp_path):
    root = make_an4(tmp_path / "an4", "big")
    for n, path in enumerate(sorted(root.rglob("*.raw"))):
        if n % 2:
            path.write_bytes(speech(n).astype("<i2").tobytes())
    with pytest.raises(
        InputError, match=r"byte order: .* expected 16-bit samples in one byte order"
    ):
        prepare.main([str(root), str(tmp_path / "data")])


def test_odd_number_of_bytes(prepare, tmp_path):
    root = make_an4(tmp_path / "an4", "little")
    with open(root / "wav/an4_clstk/faan/an0-faan-b.raw", "ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match="3601 bytes, expected 16-bit samples"):
        prepare.main([str(root), str(tmp_path / "data")])


def test_malformed_transcript(prepare, tmp_path):
    root = make_an4(tmp_path / "an4", "big")
    with open(root / "etc/an4_train.transcription", "a") as file:
        file.write("NO ID\n")
    with pytest.raises(InputError, match=r"an4_train\.transcription:104: 'NO ID', expected"):
        prepare.main([str(root), str(tmp_path / "data")])


def test_not_a_corpus(prepare, tmp_path):
    with pytest.raises(InputError, match="expected the unpacked AN4 corpus"):
        prepare.main([str(tmp_path), str(tmp_path / "data")])


def test_synthetic_speech_has_characters_and_folders_of_its_own(recipes):
    an4 = recipes / "an4"
    for name, text in (("train_nodev", "A"), ("train_with_synthetic", "A B"), ("train_dev", "A")):
        (an4 / "data" / name).mkdir(parents=True)
        (an4 / "data" / name / "text").write_text(f"u {text}\n")
    arguments = ["--corpus", str(an4), "--stop-stage", "2", "--stage", "2"]
    for options in ([], ["--synthetic", "synthetic"]):
        subprocess.run([an4 / "run.sh", *arguments, *options], check=True)
    plain, joint = (an4 / f"data/lang_char{v}/tokens.txt" for v in ("", "_synthetic"))
    assert "B" not in plain.read_text() and "B" in joint.read_text()
    again = subprocess.run([an4 / "run.sh", *arguments], capture_output=True, text=True, check=True)
    assert "characters: done already" in again.stdout
    options = ["--synthetic", "synthetic", "--stage", "6"]
    later = subprocess.run([an4 / "run.sh", *options], capture_output=True, text=True, check=False)
    assert "exp/synthetic_seed1/decode_train_dev_greedy/text: not there" in later.stderr


def test_real_corpus(prepare, tmp_path, capsys):
    corpus = REPOSITORY.parent / "shared" / "corpora" / "an4"
    if not corpus.is_dir():
        pytest.skip("AN4 is not on this machine")
    prepare.main([str(corpus), str(tmp_path / "data")])
    said = capsys.readouterr()
    assert "big-endian" in said.out
    assert "train_nodev: 848 utterances, 4851 words" in said.out
    assert "train_dev: 100 utterances, 591 words" in said.out
    assert "warning" not in said.err
    speakers = (tmp_path / "data/train_dev/spk2utt").read_text().splitlines()
    assert len(speakers) == 8


def test_two_seeds_are_trained_joined_and_scored(recipes, tmp_path):
    corpus = make_an4(tmp_path / "an4", "big")
    names = [f"an{n}-ftst-b" for n in range(3)]
    write_half(corpus, "test", "an4test_clstk", names, "big", "{words} ({id})")
    units = [f"--model.{part}.units 8" for part in ("encoder", "attention", "decoder")]
    small = " ".join(["--epochs 1 --model.encoder.pyramid [1]", *units])
    (recipes / "an4/conf/lm.yaml").write_text("epochs: 1\nunits: 8\nembedding: 8\n")
    options = ["--seeds", "1 2", "--train-options", small]
    command = ["bash", recipes / "an4/run.sh", "--corpus", str(corpus), *options]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    results = (recipes / "an4/exp/las/RESULTS").read_text()
    for part in ("train_dev", "test"):
        assert f"exp/las_ensemble/decode_{part}_ensemble/wer" in results
        assert f"decode_{part}_ctc_lm: mean of 2 trainings: WER" in results
