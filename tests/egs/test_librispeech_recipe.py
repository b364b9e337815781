"""LibriSpeech's tree becomes a Kaldi data directory."""

import hashlib
import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from asr.corpus.validate import validate
from asr.errors import InputError

REPOSITORY = Path(__file__).resolve().parents[2]
SPEAKERS = "; comment\n19 | F | dev-clean | 1.0 | A | B\n103  | M | dev-clean | 2.0 | C\n"


@pytest.fixture
def prepare(load_script):
    return load_script("librispeech/local/prepare.py")


@pytest.fixture
def tree(tmp_path):
    """Two readers, one with two chapters; ``103-2`` sorts before ``19-1`` in byte order."""
    root = tmp_path / "LibriSpeech" / "dev-clean"
    for speaker, chapter, count in (("19", "1", 2), ("103", "2", 1), ("103", "10", 1)):
        folder = root / speaker / chapter
        folder.mkdir(parents=True)
        names = [f"{speaker}-{chapter}-{n:04d}" for n in range(count)]
        (folder / f"{speaker}-{chapter}.trans.txt").write_text(
            "".join(f"{name} IT'S  {i}\n" for i, name in enumerate(names))
        )
        for name in names:
            (folder / f"{name}.flac").touch()
    (root.parent / "SPEAKERS.TXT").write_text(SPEAKERS)
    return root


def test_tables(prepare, tree, tmp_path):
    out = tmp_path / "data" / "dev_clean"
    assert prepare.main([str(tree), str(out)]) == 0
    assert validate(out) == []
    assert (out / "text").read_text().splitlines() == [
        "103-10-0000 IT'S 0",
        "103-2-0000 IT'S 0",
        "19-1-0000 IT'S 0",
        "19-1-0001 IT'S 1",
    ]
    assert (out / "utt2spk").read_text().splitlines()[0] == "103-10-0000 103-10"
    assert (out / "spk2gender").read_text() == "103-10 m\n103-2 m\n19-1 f\n"
    first = (out / "wav.scp").read_text().splitlines()[0]
    assert first == f"103-10-0000 {tree.resolve()}/103/10/103-10-0000.flac"


def test_every_problem_is_told(prepare, tree, tmp_path):
    (tree / "19/1/19-1-0001.flac").unlink()
    (tree / "19/1/19-1-0007.flac").touch()
    listing = tree / "103/2/103-2.trans.txt"
    listing.write_text("103-2-0000\n103-3-0000 WRONG\n")
    (tree / "103/10/103-10.trans.txt").unlink()
    with pytest.raises(InputError) as error:
        prepare.main([str(tree), str(tmp_path / "data")])
    message = str(error.value)
    assert "5 problems" in message
    assert f"{listing}:1: 103-2-0000 has no words" in message
    assert f"{listing}:2: '103-3-0000', expected \"103-2-<number> <words>\"" in message
    assert "19-1.trans.txt:2: no audio file 19-1-0001" in message
    assert "19-1-0007.flac: no line in 19-1.trans.txt" in message
    assert "103-10.trans.txt: no such file" in message
    assert not (tmp_path / "data").exists()


def test_repeated_line(prepare, tree, tmp_path):
    listing = tree / "103/2/103-2.trans.txt"
    listing.write_text("103-2-0000 A\n103-2-0000 B\n")
    with pytest.raises(InputError, match=r"trans\.txt:2"):
        prepare.main([str(tree), str(tmp_path / "data")])


def test_unknown_reader_leaves_genders_out(prepare, tree, tmp_path, capsys):
    (tree.parent / "SPEAKERS.TXT").write_text("19 | F | x\n")
    prepare.main([str(tree), str(tmp_path / "data")])
    assert "no line for 103" in capsys.readouterr().err
    assert not (tmp_path / "data" / "spk2gender").exists()


def test_malformed_speakers(prepare, tree, tmp_path):
    (tree.parent / "SPEAKERS.TXT").write_text("19 | X | x\n")
    with pytest.raises(InputError, match=r"SPEAKERS\.TXT:1"):
        prepare.main([str(tree), str(tmp_path / "data")])


def test_not_a_corpus(prepare, tmp_path):
    with pytest.raises(InputError, match="no <reader>/<chapter> folders"):
        prepare.main([str(tmp_path), str(tmp_path / "data")])


def test_results_of_other_contents_are_removed(prepare, tree, tmp_path):
    out = tmp_path / "data"
    prepare.main([str(tree), str(out)])
    (out / "utt2dur").write_text("kept\n")
    prepare.main([str(tree), str(out)])
    assert (out / "utt2dur").exists()
    (tree / "103/2/103-2.trans.txt").write_text("103-2-0000 OTHER WORDS\n")
    prepare.main([str(tree), str(out)])
    assert not (out / "utt2dur").exists()


@pytest.mark.parametrize("name", ["train", "dev", "test"])
def test_bundled_corpus(prepare, tmp_path, name):
    out = tmp_path / "data"
    prepare.main([str(REPOSITORY / "data" / "mini" / f"{name}-mini"), str(out)])
    assert validate(out) == []
    assert (out / "spk2gender").exists()


def test_every_subset_has_its_characters(recipes, tmp_path):
    data = recipes / "librispeech/data"
    for part in ("train-clean-5", "dev-clean-2"):
        (tmp_path / part).mkdir()
    (data / "train_clean_5").mkdir(parents=True)
    (data / "train_clean_5" / "text").write_text("u A\n")
    stages = ["--stage", "2", "--stop-stage", "2"]
    options = ["--corpus", str(tmp_path), "--subset", "train-clean-5", *stages]
    subprocess.run([recipes / "librispeech/run.sh", *options], check=True)
    assert [path.name for path in data.glob("lang_char*")] == ["lang_char_train_clean_5"]


def test_a_set_that_was_deleted_is_downloaded_again(recipes, load_script, tmp_path):
    checksums = load_script("librispeech/local/download.py").MD5
    script = recipes / "librispeech/local/download.py"
    (tmp_path / "mirror/31").mkdir(parents=True)
    for name, reader in (("train-clean-5", 19), ("dev-clean-2", 103)):
        files = {"SPEAKERS.TXT": b"", f"{name}/{reader}/1/{reader}-1.trans.txt": b""}
        path = tmp_path / f"mirror/31/{name}.tar.gz"
        with tarfile.open(path, "w:gz") as tar:
            for file, content in files.items():
                tar.addfile(tarfile.TarInfo(f"LibriSpeech/{file}"), io.BytesIO(content))
        found = hashlib.md5(path.read_bytes()).hexdigest()
        script.write_text(script.read_text().replace(checksums[name], found))
    options = ["--subset", "train-clean-5", "--mirror", f"file://{tmp_path}/mirror"]
    options = [recipes / "librispeech/run.sh", *options, "--stage", "-1", "--stop-stage", "-1"]

    def download() -> str:
        return subprocess.run(options, check=True, capture_output=True, text=True).stdout

    corpus = recipes / "librispeech/downloads/LibriSpeech"
    download()
    assert "download: done already" in download()
    shutil.rmtree(corpus / "dev-clean-2")
    assert "dev-clean-2 downloaded" in download()
    assert (corpus / "dev-clean-2/103/1/103-1.trans.txt").is_file()


@pytest.mark.parametrize(
    ("sets", "complaint"),
    [
        (["train-clean-5"], "no training: for --subset train-clean-5 it needs"),
        (["train-clean-100", "test-clean"], "expected a dev set (dev-clean or dev-other)"),
    ],
)
def test_a_training_needs_a_dev_set(recipes, tmp_path, sets, complaint):
    for part in sets:
        (tmp_path / "corpus" / part).mkdir(parents=True)
    options = ["--corpus", str(tmp_path / "corpus"), "--subset", sets[0], "--stage", "1"]
    run = [recipes / "librispeech/run.sh", *options]
    found = subprocess.run(run, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert complaint in found.stderr


@pytest.mark.parametrize(
    ("train", "options", "config"),
    [
        ("train-clean-100", [], "conf/train_large.yaml"),
        ("train-clean-5", [], "conf/train.yaml"),
        ("train-clean-5", ["--train-config", "egs/nowhere.yaml"], None),
    ],
)
def test_settings_fit_the_hours_of_a_corpus(recipes, tmp_path, train, options, config):
    """The stage fails here, because the data are empty; its log has the command."""
    recipe = recipes / "librispeech"
    for part in (train, "dev-clean"):
        (tmp_path / "corpus" / part).mkdir(parents=True)
        (recipe / "data" / part.replace("-", "_")).mkdir(parents=True)
        for table in ("wav.scp", "utt2spk"):
            (recipe / "data" / part.replace("-", "_") / table).touch()
    options = ["--corpus", str(tmp_path / "corpus"), "--stage", "1", "--stop-stage", "1", *options]
    found = subprocess.run(
        [recipe / "run.sh", *options], capture_output=True, text=True, cwd=recipes.parent
    )
    log = recipe / "exp/log/features_all.log"
    assert found.returncode == (1 if config else 2)
    assert ("stage 1" in found.stdout) == log.exists() == bool(config)
    if config:
        assert f"--config {config} " in log.read_text().splitlines()[0]
    else:
        assert "nowhere.yaml: cannot read" in found.stderr


def test_real_slice(prepare, tmp_path):
    corpus = REPOSITORY.parent / "shared" / "corpora" / "LibriSpeech"
    if not corpus.is_dir():
        pytest.skip("the slice of LibriSpeech is not on this machine")
    for name, count in (("dev-clean", 1), ("test-clean", 5), ("test-other", 30)):
        out = tmp_path / name
        prepare.main([str(corpus / name), str(out)])
        assert validate(out) == []
        assert len((out / "text").read_text().splitlines()) == count
