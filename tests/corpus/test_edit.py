from pathlib import Path

import pytest

from asr.corpus.datadir import DataDir
from asr.corpus.edit import (
    choose,
    combine,
    drop,
    first_of_each_speaker,
    fix,
    of_speakers,
    split,
    subset,
)
from asr.corpus.tables import read_table, read_tables
from asr.corpus.validate import validate
from asr.errors import InputError


def ids(path: Path) -> list[str]:
    return [utterance.id for utterance in DataDir.load(path, text=False).utterances]


# -- fix -------------------------------------------------------------------------------------


def test_fix_leaves_a_valid_directory_alone(segmented):
    before = {p.name: p.stat().st_mtime_ns for p in segmented.iterdir()}
    assert fix(segmented) == []
    assert {p.name: p.stat().st_mtime_ns for p in segmented.iterdir()} == before


def test_fix_sorts_and_derives_spk2utt(make):
    path = make(text="s2-a FOUR\ns1-b TWO\ns1-a ONE\n", spk2utt="s2 s2-a\n")
    (last,) = fix(path)
    assert "kept 3 of 3 utterances" in last
    assert (path / "text").read_text() == "s1-a ONE\ns1-b TWO\ns2-a FOUR\n"
    assert (path / "spk2utt").read_text() == "s1 s1-a s1-b\ns2 s2-a\n"
    assert validate(path) == []


def test_fix_keeps_the_originals(make):
    path = make(text="s2-a FOUR\r\ns1-a ONE\ns1-b TWO\n", spk2utt=None)
    fix(path)
    assert (path / ".backup" / "text").read_bytes() == b"s2-a FOUR\r\ns1-a ONE\ns1-b TWO\n"


def test_a_backup_is_never_replaced(make):
    texts = [f"s2-a FOUR\ns1-a ONE\ns1-b {word}\n" for word in ("TWO", "SIX", "TEN")]
    path = make(text=texts[0], spk2utt=None)
    for text, name in zip(texts, (".backup", ".backup.2", ".backup.3"), strict=True):
        (path / "text").write_text(text)
        assert fix(path)[-1].endswith(f"originals in {path / name}")
    for text, name in zip(texts, (".backup", ".backup.2", ".backup.3"), strict=True):
        assert (path / name / "text").read_text() == text
    assert drop(path, ["s1-a"]).endswith(f"originals in {path}/.backup.4")


def test_fix_names_only_what_it_changed(make):
    path = make(wav_scp="s1-a x.wav\ns1-b x.wav\ns2-a x.wav\n")  # no such file
    assert fix(path) == []
    assert not (path / ".backup").exists()
    (path / "text").write_text("s2-a FOUR\ns1-a ONE\ns1-b TWO\n")
    assert fix(path) == [
        f"{path}: kept 3 of 3 utterances; changed text; originals in {path}/.backup"
    ]


def test_fix_reports_each_removed_line(make):
    path = make(
        utt2spk="s1-a s1\ns1-b s1 x\ns2-a s2\ns2-b s2\n",
        text="s1-a ONE\ns1-b TWO\ns2-a\ns1-a SIX\ns1-a ONE\n",
    )
    *removed, last = fix(path)
    assert [line.removeprefix(f"{path}/") for line in removed] == [
        "text:3: s2-a: line removed: an empty transcript",
        "text:4: s1-a: line removed: already in line 1, where it has another value",
        "text:5: s1-a: line removed: already in line 1",
        'utt2spk:2: s1-b: line removed: 3 fields, expected "<utt-id> <spk-id>"',
        "text: s1-b: line removed: another file does not list this id",
        "utt2spk: s2-a: line removed: another file does not list this id",
        "utt2spk: s2-b: line removed: another file does not list this id",
        "wav.scp: s1-b: line removed: another file does not list this id",
        "wav.scp: s2-a: line removed: another file does not list this id",
    ]
    assert "kept 1 of 3 utterances" in last
    assert ids(path) == ["s1-a"]


def test_fix_changes_characters(make):
    path = make(text="\ufeffs1-a ONE\u00a0TWO\r\ns1-b  T\u200bWO\x07\n\ns2-a FOUR")
    fix(path)
    assert read_table(path / "text") == {"s1-a": "ONE TWO", "s1-b": "TWO", "s2-a": "FOUR"}
    assert validate(path) == []


def test_a_control_character_splits_no_id(make):
    path = make(text="s1-\x01a ONE\ns1-b TWO\ns2-a FOUR\n")
    fix(path)
    assert read_table(path / "text") == {"s1-a": "ONE", "s1-b": "TWO", "s2-a": "FOUR"}


def test_format_characters_and_decomposed_letters_are_fixed(make):
    path = make(text="s1-a co\u00adop\ns1-b CAFE\u0301\ns2-a SIX\n")
    done = fix(path)
    assert done[0] == (
        f"{path}/text: 1 U+00AD (SOFT HYPHEN) removed, letters of 1 texts composed (Unicode NFC)"
    )
    assert read_table(path / "text") == {"s1-a": "coop", "s1-b": "CAF\u00c9", "s2-a": "SIX"}
    assert fix(path) == []


def test_fix_keeps_odd_spaces_in_paths(make, wav):
    odd = wav.with_name("a\u00a0b.wav")
    wav.rename(odd)
    path = make(wav_scp=f"s2-a {odd}\ns1-a {odd}\ns1-b {odd}\n")
    fix(path)
    assert validate(path) == []


def test_fix_drops_segments_without_a_recording(segmented, wav):
    (segmented / "wav.scp").write_text(f"r1 {wav}\nr3 {wav}\n")
    fix(segmented)
    assert ids(segmented) == ["s1-a", "s1-b"]
    assert validate(segmented) == []
    assert list(read_table(segmented / "wav.scp")) == ["r1"]
    assert list(read_table(segmented / "spk2age")) == ["s1"]


def test_fix_keeps_speech_whose_duration_or_gender_is_missing(make):
    path = make(utt2dur="s1-a 2\ns1-b 0\ns2-a 2\n", spk2gender="s1 f\n", spk2age="s1 30\n")
    removed, *aside, _ = fix(path)
    assert "utt2dur:2: s1-b: line removed" in removed
    assert [line.partition(":")[0] for line in aside] == [f"{path}/spk2gender", f"{path}/utt2dur"]
    assert len(ids(path)) == 3
    assert (path / "spk2age").exists()
    assert not (path / "utt2dur").exists() and (path / ".backup" / "utt2dur").exists()


def test_fix_removes_statistics_of_lost_utterances(make):
    path = make(text="s1-a ONE\ns2-a FOUR\n", **{"cmvn.ark": "sums"})
    fix(path)
    assert not (path / "cmvn.ark").exists()
    assert (path / ".backup" / "cmvn.ark").read_text() == "sums"


def test_fix_keeps_statistics_of_unchanged_audio(make, segmented):
    path = make(text="s1-b TWO\ns1-a ONE\ns2-a FOUR\n", **{"cmvn.ark": "sums"})
    assert "asr features" not in fix(path)[-1]
    assert (path / "cmvn.ark").read_text() == "sums"
    (segmented / "cmvn.ark").write_text("sums")
    segments = (segmented / "segments").read_text()
    (segmented / "segments").write_text(segments.replace("s1-a", "s1-x"))
    assert fix(segmented)[-1].endswith("; run `asr features` again")
    assert not (segmented / "cmvn.ark").exists()


def test_fix_mends_spaces_in_segments(segmented):
    lines = (segmented / "segments").read_text()
    (segmented / "segments").write_text(lines.replace("r1 ", "r1\u00a0 "))
    assert validate(segmented)
    fix(segmented)
    assert (segmented / "segments").read_text() == lines
    assert validate(segmented) == []


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"text": "s9-a ONE\n"}, "no utterance is in all of text, utt2spk, wav.scp; nothing was"),
        ({"text": b"s1-a CAF\xe9\n"}, "text:1: byte 0xe9 is not UTF-8"),
        ({"utt2spk": None}, "utt2spk: no such file; add it"),
        ({"wav_scp": None}, "wav.scp: no such file; add it"),
    ],
)
def test_fix_gives_up_without_a_change(make, files, message):
    path = make(**files)
    before = {p.name: p.read_bytes() for p in path.iterdir()}
    with pytest.raises(InputError, match=message):
        fix(path)
    assert {p.name: p.read_bytes() for p in path.iterdir()} == before


# -- subset ----------------------------------------------------------------------------------


def test_subset_keeps_all_tables_consistent(segmented, tmp_path):
    assert subset(segmented, tmp_path / "out", ["s1-b"]) == 1
    assert validate(tmp_path / "out") == []
    assert read_tables(tmp_path / "out").keys() == read_tables(segmented).keys()
    assert ids(tmp_path / "out") == ["s1-b"]


def test_subset_into_an_older_one_leaves_nothing_behind(segmented, make, tmp_path):
    subset(segmented, tmp_path / "out", ["s1-b"])
    subset(make(), tmp_path / "out", ["s1-a"])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        *(".backup", "spk2utt", "text", "utt2spk", "wav.scp"),
    ]


def test_other_utterances_are_backed_up_before_they_are_replaced(make, tmp_path, capsys):
    source, out = make(), tmp_path / "out"
    for keep in (["s1-a", "s1-b"], ["s1-a", "s1-b"], ["s2-a"], ["s1-b", "s2-a"]):
        subset(source, out, keep)
    assert capsys.readouterr().err == (
        f"note: {out} held 2 other utterances; its former files are kept in {out}/.backup\n"
    )
    assert ids(out / ".backup") == ["s1-a", "s1-b"]
    assert not (out / ".backup.2").exists()


def test_files_without_utt2spk_are_backed_up_too(make, tmp_path, capsys):
    out = make("out", utt2spk=None, wav_scp="x-1 a.wav\n")
    subset(make(), out, ["s1-a"])
    assert "held 1 other utterance;" in capsys.readouterr().err
    assert (out / ".backup" / "wav.scp").read_text() == "x-1 a.wav\n"


def test_files_written_by_hand_are_backed_up_before_they_are_replaced(make, tmp_path, capsys):
    source, out = make(), tmp_path / "out"
    subset(source, out, ["s1-a"])
    (out / "text").write_text("s1-a WON\n")
    (out / "spk2gender").write_text("s1 f\n")
    subset(source, out, ["s1-a"])
    assert f"{out} had another spk2gender and text; its former" in capsys.readouterr().err
    assert (out / ".backup" / "text").read_text() == "s1-a WON\n"
    assert (out / "text").read_text() == "s1-a ONE\n"
    (out / "utt2spk").write_text("s1-a s9\n")  # nobody but the user knows this, and utt2lang
    (out / "utt2lang").write_text("s1-a en\n")
    subset(source, out, ["s1-a"])
    assert f"{out} had another utt2lang and utt2spk; its former" in capsys.readouterr().err
    assert (out / ".backup.2" / "utt2spk").read_text() == "s1-a s9\n"


def test_a_linked_table_is_replaced_and_the_other_directory_unchanged(make, tmp_path):
    source, out = make(), tmp_path / "out"
    out.mkdir()
    for name in ("wav.scp", "text"):
        (out / name).symlink_to(source / name)
    (out / "utt2spk").symlink_to(tmp_path / "gone" / "utt2spk")
    subset(source, out, ["s1-a"])
    assert ids(out) == ["s1-a"] and ids(source) == ["s1-a", "s1-b", "s2-a"]
    assert not (out / "text").is_symlink() and not (out / "utt2spk").is_symlink()


@pytest.mark.parametrize(
    ("keep", "message"),
    [(["s1-a", "s9-a"], "no utterance s9-a"), ([], "no utterance was chosen")],
)
def test_subset_refuses(make, tmp_path, keep, message):
    with pytest.raises(InputError, match=message):
        subset(make(), tmp_path / "out", keep)
    assert not (tmp_path / "out").exists()


def test_subset_does_not_overwrite_its_source(make):
    path = make()
    with pytest.raises(InputError, match="also read from"):
        subset(path, path / "..." / ".." / ".", ["s1-a"])


def test_ways_to_choose(make):
    data = DataDir.load(make(utt2dur="s1-a 3\ns1-b 1\ns2-a 2\n"))
    assert choose(data, "first", 2) == ["s1-a", "s1-b"]
    assert choose(data, "last", 2) == ["s1-b", "s2-a"]
    assert choose(data, "shortest", 2) == ["s1-b", "s2-a"]
    assert first_of_each_speaker(data, 1) == ["s1-a", "s2-a"]
    assert of_speakers(data, ["s2"]) == ["s2-a"]


def test_a_draw_follows_from_its_seed(make):
    data = DataDir.load(make())
    draws = [choose(data, "random", 1, seed) for seed in range(20)]
    assert draws == [choose(data, "random", 1, seed) for seed in range(20)]
    assert {name for (name,) in draws} == {"s1-a", "s1-b", "s2-a"}


def test_what_cannot_be_chosen(make):
    data = DataDir.load(make())
    with pytest.raises(InputError, match="3 utterances, cannot choose 4"):
        choose(data, "first", 4)
    with pytest.raises(InputError, match="duration is not known"):
        choose(data, "shortest", 1)
    with pytest.raises(InputError, match="no speaker s3"):
        of_speakers(data, ["s1", "s3"])


# -- combine ---------------------------------------------------------------------------------


def test_combine_undoes_split(segmented, tmp_path):
    parts = split(segmented, 2)
    assert combine(tmp_path / "out", parts) == (3, [])
    assert read_tables(tmp_path / "out") == read_tables(segmented)
    assert validate(tmp_path / "out") == []


def test_combine_returns_the_files_it_leaves_out(make, tmp_path):
    first = make("a", utt2dur="s1-a 2\ns1-b 2\ns2-a 2\n")
    second = make(
        "b", utt2spk="s3-a s3\n", spk2utt="s3 s3-a\n", text="s3-a SIX\n", wav_scp="s3-a x |\n"
    )
    assert combine(tmp_path / "out", [first, second]) == (4, ["utt2dur"])
    assert ids(tmp_path / "out") == ["s1-a", "s1-b", "s2-a", "s3-a"]


def test_combine_keeps_the_originals_of_copies(make, tmp_path):
    files = {"utt2spk": "s3-a s3\n", "spk2utt": "s3 s3-a\n", "text": "s3-a SIX\n"}
    copies = make("b", **files, wav_scp="s3-a x |\n", utt2uniq="s3-a s1-a\n")
    combine(tmp_path / "out", [make("a"), copies])
    found = {"s1-a": "s1-a", "s1-b": "s1-b", "s2-a": "s2-a", "s3-a": "s1-a"}
    assert read_table(tmp_path / "out" / "utt2uniq") == found


def test_combine_refuses_an_id_with_two_contents(make, tmp_path):
    first, second = make("a"), make("b", text="s1-a ONE\ns1-b ELSE\ns2-a FOUR\n")
    with pytest.raises(InputError) as told:
        combine(tmp_path / "out", [first, second])
    assert f"text: s1-b is 'TWO THREE' in {first} and 'ELSE' in {second}" in str(told.value)


def test_combine_refuses_speakers_that_interleave(make, tmp_path):
    first = make("a")
    second = make(
        "b",
        utt2spk="s1-a1-b s1-a1\n",
        spk2utt="s1-a1 s1-a1-b\n",
        text="s1-a1-b SIX\n",
        wav_scp="s1-a1-b x |\n",
    )
    assert validate(second) == []
    with pytest.raises(InputError, match="s1-b of speaker s1 would come after s1-a1-b of s1-a1"):
        combine(tmp_path / "out", [first, second])


def test_combine_makes_segments_of_whole_recordings(segmented, make, tmp_path):
    other = make(
        "other",
        utt2spk="s3-a s3\n",
        spk2utt="s3 s3-a\n",
        text="s3-a SIX\n",
        wav_scp="s3-a x |\n",
        utt2dur="s3-a 1.25\n",
    )
    _, left_out = combine(tmp_path / "out", [segmented, other])
    assert left_out == ["spk2age", "spk2gender", "utt2num_frames"]
    assert read_table(tmp_path / "out" / "segments")["s3-a"] == "s3-a 0 1.25"
    assert validate(tmp_path / "out") == []
    (other / "utt2dur").unlink()
    with pytest.raises(InputError, match=f"{other}: no segments, but .* `asr features {other}`"):
        combine(tmp_path / "out", [segmented, other])


# -- split -----------------------------------------------------------------------------------


def directory_of(make, sizes: list[int]) -> Path:
    """Speakers s1, s2, ... with so many utterances each."""
    pairs = [(f"s{s}-{u}", f"s{s}") for s, size in enumerate(sizes, 1) for u in range(size)]
    return make(
        f"sizes{'_'.join(map(str, sizes))}",
        utt2spk="".join(f"{u} {s}\n" for u, s in pairs),
        spk2utt="".join(
            f"s{s} {' '.join(f's{s}-{u}' for u in range(size))}\n"
            for s, size in enumerate(sizes, 1)
        ),
        text="".join(f"{u} WORD\n" for u, _ in pairs),
        wav_scp="".join(f"{u} x |\n" for u, _ in pairs),
    )


@pytest.mark.parametrize(
    ("sizes", "parts", "by_speaker", "by_utterance"),
    [
        ([2, 2, 2], 3, [2, 2, 2], [2, 2, 2]),
        ([1, 8, 1], 3, [1, 8, 1], [4, 3, 3]),
        ([1, 1, 1, 7], 2, [3, 7], [5, 5]),
        ([5, 1, 1, 1, 1, 1], 2, [5, 5], [5, 5]),
        ([4, 3], 1, [7], [7]),
    ],
)
def test_parts_are_balanced_runs(make, sizes, parts, by_speaker, by_utterance):
    path = directory_of(make, sizes)
    for paths, expected, folder in (
        (split(path, parts), by_speaker, f"split{parts}"),
        (split(path, parts, by_utterance=True), by_utterance, f"split{parts}utt"),
    ):
        assert paths == [path / folder / str(n) for n in range(1, parts + 1)]
        assert [len(ids(p)) for p in paths] == expected
        assert [name for p in paths for name in ids(p)] == ids(path)


def test_no_speaker_is_in_two_parts(make):
    path = directory_of(make, [3, 1, 4, 1, 5])
    parts = [{u.speaker for u in DataDir.load(p).utterances} for p in split(path, 3)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 5


def test_more_parts_than_speakers(make):
    path = make()
    with pytest.raises(InputError, match="2 speakers, cannot make 3 parts"):
        split(path, 3)
    assert len(split(path, 3, by_utterance=True)) == 3


def test_an_invalid_directory_is_neither_cut_nor_joined(make, tmp_path):
    broken = make(text="s1-a ONE\n")
    cases = ((tmp_path / "none", "no such folder"), (broken, "s1-b: no line in text"))
    for path, message in cases:
        with pytest.raises(InputError, match=message):
            split(path, 1)
        with pytest.raises(InputError, match=message):
            combine(tmp_path / "out", [path])
