import pytest

from asr.cli import main
from asr.errors import InputError
from asr.text.tokenizer import CharTokenizer


def test_the_table_of_two_words():
    tokenizer = CharTokenizer.from_texts(["BA", "A C"])
    assert tokenizer.symbols == ["<blank>", "<unk>", "<space>", "A", "B", "C", "<sos/eos>"]
    assert tokenizer.encode("AB C") == [3, 4, 2, 5]
    assert (tokenizer.blank_id, tokenizer.unk_id) == (0, 1)
    assert tokenizer.eos_id == 6 == len(tokenizer) - 1


def test_decode_undoes_encode_and_drops_blank_and_end():
    tokenizer = CharTokenizer.from_texts(["IT'S TEN"])
    ids = tokenizer.encode("TEN SITS'")
    assert tokenizer.decode([tokenizer.eos_id, 0, *ids, 0, tokenizer.eos_id]) == "TEN SITS'"


def test_every_character_gets_one_id_known_or_not():
    tokenizer = CharTokenizer.from_texts(["A B"])
    assert tokenizer.encode("AxB") == [3, 1, 4]
    assert tokenizer.decode([3, 1, 4]) == "A\ufffdB"


def test_white_space_of_any_kind_is_the_space():
    tokenizer = CharTokenizer.from_texts(["A\tB", "A\u3000B"])
    assert tokenizer.symbols[2:-1] == ["<space>", "A", "B"]
    assert tokenizer.encode("A\u00a0B") == tokenizer.encode("A B")


def test_the_file_gives_the_same_table(tmp_path):
    tokenizer = CharTokenizer.from_texts(["ÉTÉ", "नमस्ते", "大", "< >"])
    path = tokenizer.to_file(tmp_path / "lang_char" / "tokens.txt")
    assert path.read_text(encoding="utf-8").splitlines()[2] == "<space> 2"
    assert CharTokenizer.from_file(path).symbols == tokenizer.symbols


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("<blank> 0\n<unk> 1\nA 3\n<sos/eos> 4\n", "tokens.txt:3: found"),
        ("<blank> 0\n<unk> 1\nA\n<sos/eos> 3\n", "tokens.txt:3: found"),
        ("<unk> 0\n<blank> 1\nA 2\n<sos/eos> 3\n", "tokens.txt:1: symbol"),
        ("<blank> 0\n<unk> 1\nA 2\nA 3\n<sos/eos> 4\n", "tokens.txt:4: .* twice"),
        ("<blank> 0\n<unk> 1\nAB 2\n<sos/eos> 3\n", "tokens.txt:3: symbol"),
        ("<blank> 0\n<unk> 1\nA 2\n", "tokens.txt:3: .*expected <sos/eos>"),
        ("<blank> 0\n", "expected <blank>, <unk>, <sos/eos>"),
    ],
)
def test_a_wrong_table_is_refused_with_its_line(tmp_path, lines, message):
    path = tmp_path / "tokens.txt"
    path.write_text(lines)
    with pytest.raises(InputError, match=message):
        CharTokenizer.from_file(path)


def test_tokenizer_reads_data_directories_without_their_ids(tmp_path, capsys):
    data = tmp_path / "train"
    data.mkdir()
    (data / "text").write_text("xyz-1 BAB\nxyz-2 A B\n")
    output = tmp_path / "tokens.txt"
    assert main(["chars", str(data), "-o", str(output)]) == 0
    assert CharTokenizer.from_file(output).symbols[2:-1] == ["<space>", "A", "B"]
    captured = capsys.readouterr()
    assert "6 symbols from 2 transcripts" in captured.out
    assert f"' ': 1 occurrence, first in {data}/text:2" in captured.err


def test_a_rare_character_of_subtitles_is_found(tmp_path, capsys):
    (tmp_path / "s.srt").write_text(
        "1\n00:00:01,000 --> 00:00:02,000\nTEA\n\n2\n00:00:03,000 --> 00:00:04,000\nCAF\u00c9\n"
    )
    assert main(["chars", str(tmp_path / "s.srt")]) == 0
    assert f"1 occurrence, first in {tmp_path}/s.srt, text 2" in capsys.readouterr().err


def test_tokenizer_of_a_plain_file_normalised_to_standard_output(tmp_path, capsys):
    (tmp_path / "sentences.txt").write_text("so, so!\n")
    assert main(["chars", "--normalize", "librispeech", str(tmp_path / "sentences.txt")]) == 0
    table = "<blank> 0\n<unk> 1\n<space> 2\nO 3\nS 4\n<sos/eos> 5\n"
    assert capsys.readouterr().out == table


@pytest.mark.parametrize("content", [None, b"", b"\n\n", b"caf\xe9\n"])
def test_tokenizer_of_nothing_readable_is_bad_input(tmp_path, capsys, content):
    path = tmp_path / "sentences.txt"
    if content is not None:
        path.write_bytes(content)
    assert main(["chars", str(path)]) == 2
    assert str(path) in capsys.readouterr().err


def test_a_letter_and_its_mark_are_composed():
    tokenizer = CharTokenizer.from_texts(["CAF\u00c9", "CAFE\u0301 x\u00ad"])
    assert tokenizer.symbols[2:-1] == ["<space>", "A", "C", "F", "x", "\u00c9"]
    assert tokenizer.encode("CAFE\u0301") == tokenizer.encode("CAF\u00c9")


def test_a_table_of_decomposed_letters_reads_both_forms():
    tokenizer = CharTokenizer(["<blank>", "<unk>", "<space>", "A", "E", "\u0301", "<sos/eos>"])
    assert tokenizer.encode("E\u0301 A") == tokenizer.encode("\u00c9 A") == [4, 5, 2, 3]
    assert tokenizer.normalize("\u00c9") == "E\u0301"
    assert tokenizer.encode("\u00cb") == [1]  # it lacks the dots


def test_a_letter_with_two_marks_is_taken_apart_as_far_as_need_be():
    tokenizer = CharTokenizer(["<blank>", "<unk>", "a", "\u00e2", "\u0323", "<sos/eos>"])
    assert tokenizer.encode("\u00e2\u0323") == [3, 4]


@pytest.mark.parametrize("known", ["'", "\u2019"])
def test_an_apostrophe_is_the_one_of_the_table(known):
    tokenizer = CharTokenizer.from_texts([f"DON{known}T"])
    assert tokenizer.normalize("DON'T DON\u2019T") == f"DON{known}T DON{known}T"
    assert tokenizer.unk_id not in tokenizer.encode("DON\uff07T")


def test_tokenizer_reports_what_it_left_out(tmp_path, capsys):
    (tmp_path / "sentences.txt").write_text("co\u00adop\n", encoding="utf-8")
    assert main(["chars", str(tmp_path / "sentences.txt")]) == 0
    captured = capsys.readouterr()
    assert "\u00ad" not in captured.out
    assert "1 U+00AD (SOFT HYPHEN) removed" in captured.err
