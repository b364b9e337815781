"""Disjoint sets, and the error message if they do not exist."""

from collections import Counter

import pytest

from asr.cli import main
from asr.corpus.holdout import hold_out, nearest_sum, sizes_of_sum
from asr.corpus.tables import read_table
from asr.errors import InputError


@pytest.fixture
def directory(tmp_path):
    """Writes a data directory of (speaker, sentence) pairs."""

    def write(rows):
        folder = tmp_path / "all"
        folder.mkdir()
        (tmp_path / "a.wav").write_bytes(b"")
        table = sorted((f"{s}-{n:03}", s, text) for n, (s, text) in enumerate(rows))
        speakers = sorted({s for _, s, _ in table})
        for name, lines in {
            "text": [f"{i} {text}" for i, _, text in table],
            "utt2spk": [f"{i} {s}" for i, s, _ in table],
            "utt2lang": [f"{i} en" for i, _, _ in table],
            "wav.scp": [f"{i} {tmp_path}/a.wav" for i, _, _ in table],
            "spk2utt": [f"{s} {' '.join(i for i, o, _ in table if o == s)}" for s in speakers],
        }.items():
            (folder / name).write_text("".join(f"{line}\n" for line in lines))
        return folder

    return write


def cut(folder, share, **more):
    train, dev = folder.parent / "train", folder.parent / "dev"
    hold_out(folder, train, dev, share, **more)
    names = ("text", "utt2spk", "utt2lang")
    return [{name: read_table(out / name) for name in names} for out in (train, dev)]


def test_neither_speakers_nor_sentences_are_in_both(directory):
    # a and b say the same sentence, c and d another one, in another case and with marks
    rows = [("a", "ONE"), ("b", "One!"), ("c", "TWO"), ("d", "two"), ("a", "MORE"), ("b", "LESS")]
    train, dev = cut(directory(rows), 0.3)
    assert sorted(set(dev["utt2spk"].values())) == ["c", "d"]
    assert sorted(set(train["utt2spk"].values())) == ["a", "b"]
    assert train.keys() == dev.keys() and len(train["utt2lang"]) == 4


def test_one_of_the_two_is_enough_if_asked_for(directory):
    rows = [(s, text) for s in "abcd" for text in ("ONE", "TWO", "THREE")]
    folder = directory(rows)
    train, dev = cut(folder, 0.25, disjoint=["speaker"])
    assert len(dev["text"]) == 3 and len(set(dev["utt2spk"].values())) == 1
    train, dev = cut(folder, 0.33, disjoint=["text"])
    assert len(set(dev["text"].values())) == 1 and len(dev["text"]) == 4
    assert not {*train["text"].values()} & {*dev["text"].values()}


def test_the_same_seed_gives_the_same_cut(directory):
    folder = directory([(f"s{n:02}", f"TEXT {n}") for n in range(40)])
    cuts = [set(cut(folder, 0.1, seed=seed)[1]["text"]) for seed in (1, 1, 2)]
    assert cuts[0] == cuts[1] != cuts[2]


def test_copies_at_another_speed_stay_with_their_original(directory):
    folder = directory([("a", "ONE"), ("b", "TWO"), ("sp0.9-a", "X"), ("sp0.9-b", "Y")])
    (folder / "utt2uniq").write_text(
        "a-000 a-000\nb-001 b-001\nsp0.9-a-002 a-000\nsp0.9-b-003 b-001\n"
    )
    for seed in range(5):
        _, dev = cut(folder, 0.5, seed=seed)
        assert sorted(dev["text"]) in (["a-000", "sp0.9-a-002"], ["b-001", "sp0.9-b-003"])


def test_both_sides_of_a_call_stay_together(directory, tmp_path):
    folder = directory([("a", "ONE"), ("b", "TWO"), ("c", "SIX"), ("d", "TEN")])
    names = list(read_table(folder / "text"))
    (folder / "wav.scp").write_text("".join(f"{n} sox {n} |\n" for n in names))
    calls = zip(names, ("x A", "y A", "x B", "y B"), strict=True)
    (folder / "reco2file_and_channel").write_text("".join(f"{n} {call}\n" for n, call in calls))
    _, dev = cut(folder, 0.5, disjoint=["recording"])
    assert set(dev["utt2spk"].values()) in ({"a", "c"}, {"b", "d"})


def test_links_and_copies_of_a_recording_stay_together(directory, tmp_path):
    folder = directory([("a", "ONE"), ("b", "TWO"), ("c", "SIX"), ("d", "TEN")])
    for name, content in (("a", b"xy"), ("c", b"xy"), ("d", b"xz")):
        (tmp_path / f"{name}.wav").write_bytes(content)
    (tmp_path / "b.wav").symlink_to("a.wav")
    names = zip(read_table(folder / "text"), "abcd", strict=True)
    (folder / "wav.scp").write_text("".join(f"{i} {tmp_path}/{n}.wav\n" for i, n in names))
    _, dev = cut(folder, 0.25, disjoint=["recording"])
    assert set(dev["utt2spk"].values()) == {"d"}


def test_nothing_is_written_where_one_of_the_two_cannot_be(directory, tmp_path):
    (tmp_path / "dev").write_text("mine")
    with pytest.raises(InputError, match="dev: cannot write"):
        cut(directory([("a", "ONE"), ("b", "TWO")]), 0.5)
    assert not (tmp_path / "train").exists()


def test_nothing_is_written_over_the_text_of_others(directory, tmp_path):
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "text").write_text("x HELLO\n")
    with pytest.raises(InputError, match="dev/text: would be replaced"):
        cut(directory([("a", "ONE"), ("b", "TWO")]), 0.5)
    assert not (tmp_path / "train").exists()


def test_no_cut_at_all(directory, capsys):
    folder = directory([(s, text) for s in "abcde" for text in ("ONE", "TWO")])
    out = [str(folder.parent / name) for name in ("train", "dev")]
    assert main(["data", "hold-out", str(folder), *out, "--share", "0.2"]) == 2
    err = capsys.readouterr().err
    assert "--share" not in err
    assert "--disjoint speaker can hold out 2 of 10 utterances (20.0 %)" in err
    assert "--disjoint text can hold out 5 of 10 utterances (50.0 %)" in err
    assert not (folder.parent / "train").exists() and not (folder.parent / "dev").exists()


def test_a_cut_far_from_the_share_is_refused_and_can_be_requested(directory):
    folder = directory([("a", f"A{n}") for n in range(60)] + [("b", f"B{n}") for n in range(40)])
    with pytest.raises(InputError, match=r"--share 0.4 can hold out 40 of 100 utterances \(40"):
        cut(folder, 0.1)
    assert len(cut(folder, 0.4)[1]["text"]) == 40


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_invalid_shares(directory, share):
    with pytest.raises(InputError, match="between 0 and 1"):
        cut(directory([("a", "ONE"), ("b", "TWO")]), share)


@pytest.mark.parametrize("share", ["-0.1", "nan"])
def test_a_share_is_checked_before_the_directory_is_read(share, capsys):
    assert main(["data", "hold-out", "all", "train", "dev", f"--share={share}"]) == 2
    assert f"--share: {share}, expected 0 to 1" in capsys.readouterr().err


def test_a_directory_is_not_written_over_itself_or_twice(directory):
    folder = directory([("a", "ONE"), ("b", "TWO")])
    for train, dev in ((folder, "dev"), ("train", folder), ("same", "same")):
        with pytest.raises(InputError, match="name another directory"):
            hold_out(folder, folder.parent / train, folder.parent / dev, 0.5)
    assert len(read_table(folder / "text")) == 2


def test_sums_by_hand():
    sizes = Counter({6: 2, 7: 2, 50: 1})
    assert nearest_sum(sizes, 13) == 13
    assert sizes_of_sum(sizes, 13) == Counter({6: 1, 7: 1})
    assert nearest_sum(sizes, 9) == 7
    assert nearest_sum(Counter({50: 2}), 1) == 50
