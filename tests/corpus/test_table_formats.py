"""Tables as others write them: each row as it was meant, or an error with its line."""

import json
from pathlib import Path

import pytest
from fuzz import budget
from hypothesis import given
from hypothesis import strategies as st

from asr.corpus.importing import import_rows
from asr.corpus.table_formats import COLUMNS, find_audio, read_rows
from asr.corpus.tables import read_table
from asr.errors import InputError

NAMES = {name: name for name in COLUMNS}


@pytest.fixture
def table(tmp_path):
    """Write a table and read it: its texts, with ``line: problem`` where a row has one."""

    def read(name: str, content: str | bytes, **names: str) -> list[str]:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        rows = read_rows(path, NAMES | names)
        return [f"{r.where[len(str(path)) + 1 :]}: {r.error}" if r.error else r.text for r in rows]

    return read


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


# -- CSV -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ('a.wav,"one, two"', "one, two"),
        ('a.wav,"one ""two"" three"', 'one "two" three'),
        (r'a.wav,"one \"two\", three"', 'one "two", three'),
        (r'a.wav,"one\two"', r"one\two"),
        ('a.wav,"one" two "three"', '"one" two "three"'),
        ('a.wav,"one, two" three', '"one, two" three'),
        ('a.wav, "one, two" ', "one, two"),
        ('a.wav,5" and 6"', '5" and 6"'),
        ('a.wav,5" one', '5" one'),
        ('a.wav,"one\ntwo, three"', "one\ntwo, three"),
        ('a.wav,""', ""),
        ("a.wav,one,,", "one"),
        ("a.wav," + "one " * 50000, ("one " * 50000).strip()),
    ],
)
def test_quotes(table, rows, expected):
    assert table("t.csv", f"audio,text\n{rows}\nb.wav,last\n") == [expected, "last"]


@pytest.mark.parametrize(
    "rows",
    [
        'a.wav,"one\nb.wav,two\n',
        'a.wav,"one\nb.wav,two" three\n',
        'a.wav,"one\nb.wav,two"\n',
        'a.wav,"one\nb,two"\n',
        r'a.wav,"one\", two"' + "\n",
        'a.wav,say "yes, sir" now\n',
        'a.wav,"one, two\n',
        "a.wav,o\0ne\n",
    ],
)
def test_a_row_that_is_not_clear_is_an_error_with_its_line(table, tmp_path, rows):
    touch(tmp_path, "b.wav")
    first, *rest = table("t.csv", f"audio,text,speaker\n{rows}c.wav,last,s\n")
    assert first.startswith("2: ")
    assert rest[-1] == "last"


def test_a_text_in_the_first_column_that_swallows_rows(table):
    found = table("t.csv", 'text,audio\n"one,a.wav\ntwo",b.wav\n"three\nfour",c.wav\n')
    assert found[0].startswith("2: ") and found[-1] == "three\nfour"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("sep.csv", "sep=;\naudio;text\na.wav;one, two\nb.wav;three\n"),
        ("quoted.csv", '"sep=;"\r\naudio;text\r\na.wav;one, two\r\nb.wav;three\r\n'),
        ("tab.csv", "audio\ttext\na.wav\tone, two\nb.wav\tthree\n"),
        ("bar.csv", "audio|text\na.wav|one, two\nb.wav|three\n"),
        ("mac.csv", 'audio,text\ra.wav,"one, two"\rb.wav,three\r'),
        ("bom.csv", '\ufeff"audio","text"\na.wav,"one, two"\n\n,\nb.wav,three'),
        ("case.csv", 'Audio,Text\na.wav,"one, two"\nb.wav,three\n'),
        ("alias.csv", 'path,sentence\na.wav,"one, two"\nb.wav,three\n'),
        ("t.tsv", "audio\ttext\na.wav\tone, two\nb.wav\tthree\n"),
    ],
)
def test_separators_and_headers(table, name, content):
    assert table(name, content) == ["one, two", "three"]


def test_quotes_of_a_tsv_are_text_unless_they_are_doubled(table):
    content = 'audio\ttext\na.wav\t"one\nb.wav\t"he said ""no"""\nc.wav\t"so"\n'
    assert table("t.tsv", content) == ['"one', 'he said "no"', '"so"']


def test_two_columns_of_one_name(table):
    with pytest.raises(InputError, match=r't.csv:1: 2 columns are called "speaker"'):
        table("t.csv", "audio,text,speaker,speaker\na.wav,one,x,y\n")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_utf16(table, encoding):
    with pytest.raises(InputError, match=r"t.csv:1: UTF-16"):
        table("t.csv", "audio,text\na.wav,one\n".encode(encoding))


# -- Corpora ---------------------------------------------------------------------------------


def test_common_voice(tmp_path):
    touch(tmp_path, "clips/cv_1.mp3")
    (tmp_path / "validated.tsv").write_text(
        'client_id\tpath\tsentence\tgender\n7f\tcv_1.mp3\tHe said "no".\tmale_masculine\n'
    )
    (row,) = read_rows(tmp_path / "validated.tsv", NAMES)
    assert (row.audio, row.text) == (f"{tmp_path}/clips/cv_1.mp3", 'He said "no".')
    assert (row.id, row.speaker, row.gender) == ("cv_1", "7f", "male_masculine")


def test_ljspeech(tmp_path):
    touch(tmp_path, "wavs/LJ1-1.wav", "wavs/LJ1-2.wav")
    (tmp_path / "metadata.csv").write_text('LJ1-1|In 14, "it|In fourteen, "it\nLJ1-2|Two|Two\n')
    first, second = read_rows(tmp_path / "metadata.csv", NAMES)
    assert (first.id, first.audio) == ("LJ1-1", f"{tmp_path}/wavs/LJ1-1.wav")
    assert (first.text, second.text) == ('In fourteen, "it', "Two")


def test_a_path_of_windows(tmp_path):
    touch(tmp_path, "sub/a.wav")
    (tmp_path / "t.csv").write_text("audio,text\nsub\\a.wav,one\n")
    (row,) = read_rows(tmp_path / "t.csv", NAMES)
    assert (row.id, row.audio) == ("a", f"{tmp_path}/sub/a.wav")


def test_a_file_is_found_by_the_other_form_of_its_letters(tmp_path):
    touch(tmp_path, "e\u0301.wav", "sub/a.wav")
    assert find_audio(tmp_path, "\u00e9.wav") == f"{tmp_path}/e\u0301.wav"
    assert find_audio(tmp_path, "sub\\a.wav") == f"{tmp_path}/sub/a.wav"
    assert find_audio(tmp_path, "sub") == f"{tmp_path}/sub"
    assert find_audio(tmp_path, "x" * 5000) == f"{tmp_path}/{'x' * 5000}"


# -- JSON ------------------------------------------------------------------------------------

MANIFEST = [
    {"audio_filepath": "a.wav", "offset": 0.5, "duration": 1.1, "text": "one"},
    {"audio_filepath": "b.wav", "duration": 1, "text": "two"},
]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("lines.jsonl", "\n".join(map(json.dumps, MANIFEST))),
        ("lines.json", "\n".join(map(json.dumps, MANIFEST))),
        ("list.json", json.dumps(MANIFEST, indent=1)),
        ("in.json", json.dumps({"version": [1], "n": {"k": []}}).replace("[1]", '"1"')[:-1]
         + ', "utterances": ' + json.dumps(MANIFEST) + "}"),
    ],
)  # fmt: skip
def test_manifests(tmp_path, wav, name, content):
    (wav.with_name("b.wav")).write_bytes(wav.read_bytes())
    path = wav.with_name(name)
    path.write_text(content)
    import_rows(read_rows(path, NAMES), tmp_path / "out", str)
    times = [value.split()[1:] for value in read_table(tmp_path / "out" / "segments").values()]
    assert times == [["0.5", "1.6"], ["0", "1"]]


def test_durations_alone_cut_only_what_is_longer(tmp_path, wav):
    for seconds, cut in ((2.0, False), (1.25, True)):
        row = {"audio_filepath": "a.wav", "duration": seconds, "text": "one"}
        (wav.parent / "m.json").write_text(json.dumps([row]))
        import_rows(read_rows(wav.parent / "m.json", NAMES), tmp_path / f"out{seconds}", str)
        assert (tmp_path / f"out{seconds}" / "segments").exists() is cut


@pytest.mark.parametrize(
    "value",
    ['["one", "two"]', '{"en": "one"}', "true", "5", "NaN", r'"\ud83d"', "[" * 99999,
     '"x", "text": "y"'],
)  # fmt: skip
def test_only_text_becomes_a_transcript(table, value):
    lines = ['{"audio": "a.wav", "text": "one"}', f'{{"audio": "b.wav", "text": {value}}}']
    first, second = table("t.jsonl", "\n".join(lines))
    assert first == "one" and second.startswith("2: ")


def test_numbers_may_be_ids(table, tmp_path):
    assert table("t.jsonl", '{"audio": "a.wav", "text": "one", "id": 7, "speaker": 3}') == ["one"]
    (found,) = table("t.jsonl", '{"audio": "a.wav", "text": "one", "id": false}')
    assert found.startswith('1: "id" is false, expected a number or text')


def test_damaged_manifests(table):
    with pytest.raises(InputError, match=r"t.json:3: not JSON"):
        table("t.json", '[\n{"audio": "a.wav", "text": "one"},\n{"audio": }\n]')
    with pytest.raises(InputError, match=r"t.json:1: .* found 2 lists"):
        table("t.json", '{"a": [], "b": []}')
    lines = table("t.json", '[\n{"audio": "a.wav", "text": "one"},\n[1],\n{"text": "x"}]')
    assert [line.partition(",")[0] for line in lines] == [
        "one",
        "3: found [1]",
        "4: no audio; add it",
    ]


# -- Random tables ---------------------------------------------------------------------------

PIECES = st.lists(
    st.sampled_from(
        ["audio", "text", "a.wav", ",", ";", "\t", "|", '"', '""', "\\", "\n", "\r", " ", "\0", "é",
         "{", "}", "[", "]", ":", '"audio"', '"text"', "sep=;", "1", "null", "NaN", "\ufeff",
         "\\ud800"]
    )
).map("".join)  # fmt: skip


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.json", "t.jsonl"])
@budget(150)
@given(header=st.sampled_from(["", "audio,text\n", "audio\ttext\n"]), content=PIECES | st.binary())
def test_any_table_gives_rows_or_an_error(tmp_path_factory, name, header, content):
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(
        header.encode() + (content if isinstance(content, bytes) else content.encode())
    )
    try:
        rows = list(read_rows(path, NAMES))
    except InputError:
        return
    assert all(isinstance(row.text, str) and row.where for row in rows)


@budget(100)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"))))
def test_what_a_csv_library_writes_is_read_back(tmp_path_factory, texts):
    import csv

    path = tmp_path_factory.getbasetemp() / "written.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("audio", "text"), *(("a.wav", text) for text in texts)])
    rows = list(read_rows(path, NAMES))
    assert len(rows) == len(texts)
    for row, text in zip(rows, texts, strict=True):
        written = text.strip()
        assert row.error or row.text == ("" if written == r"\N" else written)  # MySQL's NULL
        assert not row.error or "\\" in text or '"' in text


# -- Tables of other programs ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("mac.csv", 'audio,text\ra.wav,one\rb.wav,"two\nthree"\r'),
        ("twice.csv", 'audio,text\r\r\na.wav,one\r\r\nb.wav,"two\r\r\nthree"\r\r\n'),
        ("r.tsv", '"audio"\t"text"\n"a.wav"\t"one"\n"b.wav"\t"two\nthree"\n'),
        ("bars.csv", '"audio"|"text"\n"a.wav"|"one"\n"b.wav"|"two\nthree"\n'),
        ("deepspeech.csv", 'wav_filename,size,transcript\na.wav,1,one\nb.wav,1,"two\nthree"\n'),
        (
            "hf.jsonl",
            '{"audio":{"path":"a.wav","bytes":null},"text":"one"}\n'
            '{"file_name":"b.wav","text":"two\\nthree"}\n',
        ),
    ],
)
def test_tables_of_other_programs(table, name, content):
    assert table(name, content) == ["one", "two\nthree"]


def test_decimal_commas_between_semicolons(tmp_path):
    (tmp_path / "t.csv").write_text("audio;text;start;end\na.wav;one, two;0,5;1,25\n")
    (row,) = read_rows(tmp_path / "t.csv", NAMES)
    assert (row.text, row.start, row.end) == ("one, two", "0.5", "1.25")


def test_an_empty_cell_of_mysql(table):
    assert table("t.tsv", "audio\ttext\na.wav\t\\N\n") == [""]


def test_audio_without_a_path_is_reported(table):
    rows = table("t.jsonl", '{"audio":{"path":null,"bytes":"x"},"text":"one"}\n{"audio":"a.wav"}')
    assert rows == [
        '1: "audio" is a list or an object, expected text in quotes; fix the line',
        "2: no text; add it, or name the key with --text-column",
    ]


def test_files_by_url_and_without_ending(tmp_path):
    touch(tmp_path, "a b.wav", "c.WAV", "d.wav", "d/x", "e.flac", "e.wav")
    assert find_audio(tmp_path, f"file://{tmp_path}/a%20b.wav") == str(tmp_path / "a b.wav")
    found = [Path(find_audio(tmp_path, name)).name for name in ("c", "d", "e", "file://[")]
    assert found == ["c.WAV", "d.wav", "e.flac", "["]
