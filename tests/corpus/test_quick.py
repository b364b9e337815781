"""The quick validation agrees with the thorough one, and both read the same utterances."""

import pickle
import random

import numpy as np
import pytest

from asr.corpus import datadir, quick, validate
from asr.corpus.columns import Labels, Strings
from asr.corpus.datadir import DataDir, Utterances

REQUIRED = ("utt2spk", "spk2utt", "text", "wav.scp")
PIECES = (
    *(
        b" ",
        b"  ",
        b"\t",
        b"\n",
        b"\r",
        b"0",
        b"-1",
        b"nan",
        b"1_0",
        b"~",
        b"|",
        b"/",
        b"s1",
        b"<s>",
    ),
    *(b"\xff", b"\0", b"\x7f", "\u00a0".encode(), "\u200d".encode(), "e\u0301".encode()),
)


def thorough(path, monkeypatch):
    """Utterances and problems of a directory without the quick validation."""
    with monkeypatch.context() as patch:
        for module in (datadir, validate):
            patch.setattr(module, "read_columns", lambda *arguments: None)
        problems = validate.validate(path)
        return problems, None if problems else list(DataDir.load(path).utterances)


@pytest.mark.parametrize("block", [1, 20, quick.BLOCK])
def test_valid_directories_are_read_alike(make, segmented, wav, monkeypatch, block):
    monkeypatch.setattr(quick, "BLOCK", block)
    monkeypatch.chdir(wav.parent)
    paths = [
        make("plain", utt2dur="s1-a 2.0\ns1-b 2.0\ns2-a 1.5e0\n"),
        make("spaces", text="s1-a \t ONE  \ns1-b\tTWO  THREE \ns2-a FOUR\t\n"),
        make("letters", text="s1-a \u00c9T\u00c9\ns1-b \u06cc\u200c\u062e\ns2-a \u4e2d\n"),
        make("pipe", wav_scp=f"s1-a {wav}\ns1-b cat '{wav}' |\ns2-a {wav}\n"),
        make(
            "folders",
            wav_scp=f"s1-a {wav.name}\ns1-b {wav}\ns2-a ../{wav.parent.name}/{wav.name}\n",
        ),
        make("reserved inside", text="s1-a A<s>\ns1-b #00\ns2-a X</s>Y\n"),
        segmented,
        make(
            "to the end",
            wav_scp=f"r1 {wav}\n",
            segments="s1-a r1 0.0 0.8\ns1-b r1 0.8 -1\ns2-a r1 0.5 -1.0\n",
            reco2dur="r1 2.0\n",
        ),
    ]
    for path in paths:
        assert quick.read_columns(path, REQUIRED, validate.FILES) is not None, path
        assert thorough(path, monkeypatch) == ([], list(DataDir.load(path).utterances))


def test_changed_bytes_never_pass_unless_the_thorough_validation_agrees(segmented, monkeypatch):
    rng, passed = random.Random(3), 0
    files = {name: (segmented / name).read_bytes() for name in sorted(validate.FILES)
             if (segmented / name).is_file()}  # fmt: skip
    for _ in range(600):
        name = rng.choice(sorted(files))
        whole, at = files[name], rng.randrange(len(files[name]))
        changed = whole[:at] + rng.choice(PIECES) + whole[at + rng.randrange(3) :]
        (segmented / name).write_bytes(changed)
        if quick.read_columns(segmented, REQUIRED, validate.FILES) is not None:
            passed += 1
            here = list(DataDir.load(segmented).utterances)
            assert thorough(segmented, monkeypatch) == ([], here), (name, changed)
        (segmented / name).write_bytes(whole)
    assert passed > 30


def test_speakers_that_look_alike_do_not_pass(make):
    path = make(
        utt2spk="a-1 Zoe\u0301\nb-1 Zo\u00e9\n",
        spk2utt="Zoe\u0301 a-1\nZo\u00e9 b-1\n",
        text="a-1 A\nb-1 B\n",
        wav_scp="a-1 cat a |\nb-1 cat b |\n",
    )
    assert quick.read_columns(path, REQUIRED, validate.FILES) is None


def test_utterances_are_a_sequence(segmented):
    columns = DataDir.load(segmented).utterances
    every = list(columns)
    assert (columns[-1], columns[1:]) == (every[-1], every[1:])
    assert list(Utterances.of(every)) == every and Utterances.of(columns) is columns
    assert list(pickle.loads(pickle.dumps(columns))) == every
    with pytest.raises(IndexError):
        columns[3]


def test_columns_of_texts():
    texts = ["", "\u00e9", "a b"]
    strings, labels = Strings.of(texts), Labels.of(["b", "a", "b"])
    assert (list(strings), strings[1], strings[-1:]) == (texts, "\u00e9", ["a b"])
    assert (list(labels), labels[2], labels[1:], list(labels.names)) == (
        *(["b", "a", "b"], "b", ["a", "b"], ["b", "a"]),
    )
    assert list(Strings.of([])) == [] and list(Labels(strings, np.arange(len(texts)))) == texts
    assert np.array_equal(labels.codes, [0, 1, 0])
