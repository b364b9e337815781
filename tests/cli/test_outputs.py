"""No verb overwrites its input or the tables of a data directory."""

import pytest

from asr import cli
from asr.errors import InputError
from asr.files import beside, check_folder, check_outputs


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data directory, its own characters, a list of hypotheses and some settings."""
    monkeypatch.chdir(tmp_path)
    files = {
        "data/text": "u1 A B\nu2 B A\n",
        "data/utt2spk": "u1 u1\nu2 u2\n",
        "plain/text": "u1 A B\nu2 B A\n",
        "hyp/text": "u1 A\nu2 B\n",
        "hyp/results.jsonl": "{}\n",
        "corpus.jsonl": "A B\nB A\n",
        "tokens.txt": "<blank> 0\n<unk> 1\n<space> 2\nA 3\nB 4\n<sos/eos> 5\n",
        "tuned.yaml": "beam: 4\n",
        "words.yaml": "epochs: 1\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "command",
    [
        "chars data -o data/text",
        "chars plain -o plain/text",
        "chars corpus.jsonl -o data/utt2spk",
        "chars corpus.jsonl -o corpus.jsonl",
        "chars corpus.jsonl -o tokens.txt/below",
        "lm ngram --text data --out data/text",
        "lm ngram --text plain --out plain/text",
        "lm ngram --text corpus.jsonl --plain --out corpus.jsonl",
        "lm train --text corpus.jsonl --plain --tokens tokens.txt --out corpus.safetensors",
        "lm train --text data --tokens tokens.txt --out tokens.txt",
        "lm train --text data --tokens tokens.txt --out model.jsonl",
        "lm train --text data --tokens tokens.txt --config words.yaml --out words.yaml",
        "score data hyp --html hyp/text",
        "score data/text hyp/text --html data/text",
        "score data hyp --out data/text",
        "tune data hyp --out hyp/nbest.yaml/x",
        "tune data hyp --config tuned.yaml --out tuned.yaml",
        "tune data hyp --out results.json",
        "tune data hyp --out .",
        "export an4 -o data",
        "export an4 -o data/text",
        "export an4 -o new/../data/text",
        "export an4 --search tuned.yaml -o tuned.yaml",
        "align data --model an4 --config tuned.yaml -o tuned.yaml",
        "calibrate an4 data --config tuned.yaml -o tuned.yaml",
        "explain corpus.jsonl -o corpus.jsonl",
        "explain corpus.jsonl -o data/text",
        "explain corpus.jsonl --config tuned.yaml -o tuned.yaml",
        "data subset data hyp --first 1",
        "data combine hyp data data",
        "decode --model an4 --data data --out new/../data",
        "decode --model an4 --data data --out=",
        "transcribe data --data data --out=",
        "score data hyp --html=",
        "score data hyp --out=",
        "chars data --out=",
        "average an4 -o tokens.txt/x",
        "ensemble an4 -o tokens.txt/x",
        "calibrate an4 data -o data/text",
        "data import data --kaldi data",
        "data import data --kaldi data/../data",
        "data import plain --table corpus.jsonl",
        "data import corpus.jsonl --table tokens.txt",
        "data import hyp --table hyp/text",
    ],
)
def test_no_input_is_overwritten(folder, capsys, command):
    (folder / "hyp" / "nbest.yaml").write_text("")
    before = contents(folder)
    assert cli.main(command.split()) == 2
    assert contents(folder) == before
    assert "Traceback" not in capsys.readouterr().err


def test_results_beside_other_files_are_written(folder):
    for command in ("chars data -o data/tokens.txt", "lm ngram --text data --out data/words.arpa"):
        for _ in range(2):
            assert cli.main(command.split()) == 0
    check_outputs([folder / "a.yaml", beside(folder / "a.yaml", ".json")], [folder / "data"])


def test_a_dash_is_no_name(folder):
    for check, target in ((check_outputs, ["-"]), (check_folder, "-")):
        with pytest.raises(InputError, match="-: expected the name of a f"):
            check(target)
