"""Help of at most two screens; spellings of options."""

import subprocess

import pytest

from asr.cli import main, usage
from asr.commands import VERBS
from asr.commands.completion import listed, script
from asr.config import TrainConfig
from asr.config import help as pages
from asr.config.args import add_settings, make_parser
from asr.errors import InputError

MOST = 80  # lines: two screens of 40
SUB_VERBS = [f"{v} {w}" for v in ("data", "lm", "bench") for w in listed(v) if w[0] != "-"]


def parser():
    made = pages.Parser("asr x", description="Search.")
    made.help_groups = {"search": "beam_width"}
    made.add_argument("--beam_width", type=int, default=8, help="hypotheses")
    made.add_argument("--rare", action="store_true", help="for a few")
    return made


def test_help_shows_only_the_groups(capsys):
    assert "rare" not in parser().format_help()
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(["--help-all"])
    assert ended.value.code == 0
    assert "--rare" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["--beam-width", "--beam_width"])
@pytest.mark.parametrize("form", ["{} 3", "{}=3"])
def test_dashes_and_underscores_are_equivalent(name, form):
    assert parser().parse_args(form.format(name).split()).beam_width == 3


def test_sections_are_no_suggestion():
    train = make_parser("asr example", None)
    add_settings(train, TrainConfig)
    with pytest.raises(InputError, match=r"--batch-size: no such option; (?!.*--batch\?)"):
        train.parse_args(["--batch-size", "8"])
    assert "(default: [0.9,1.0,1.1])" in " ".join(pages.render(train, everything=True).split())


def test_an_unknown_option_suggests_the_nearest():
    with pytest.raises(InputError, match="--beam-widht: no such option; did you mean --beam-width"):
        parser().parse_args(["--beam-widht", "3"])


def test_asr_help_fits_one_screen_and_has_every_verb_once():
    lines = usage().splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 80
    assert sum(line.startswith("  ") for line in lines) == len(VERBS) == len(set(VERBS))


def test_an_unknown_verb_suggests_the_nearest(capsys):
    assert main(["trian"]) == 2
    assert "trian: no such verb; did you mean asr train?" in capsys.readouterr().err


def test_quiet_suppresses_notes_but_not_errors(tmp_path, capsys):
    (tmp_path / "text").write_text("a ONE\u00ad\n")
    notes = []
    for before in ([], ["--quiet"]):
        assert main([*before, "chars", str(tmp_path)]) == 0
        notes.append("note: " in capsys.readouterr().err)
    assert notes == [True, False]
    assert main(["--quiet", "chars", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err


def test_completion_lists_verbs_and_options():
    assert {"--beam", "--ctc-weight", "--help-all"} <= set(listed("transcribe"))
    assert {"import", "validate"} <= set(listed("data"))


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("tran", "transcribe"),
        ("data va", "validate"),
        ("train --seed", "--seed"),
        ("lm n", "ngram"),
        ("data import --ta", "--table"),
    ],
)
def test_bash_completes_verbs_and_options(tmp_path, words, found):
    (tmp_path / "script").write_text(script())
    typed = f"source ./script; COMP_WORDS=(asr {words}); COMP_CWORD=${{#COMP_WORDS[@]}}"
    command = f'{typed}; ((COMP_CWORD--)); _asr; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert found in done.stdout.split()


def test_bash_completes_names_with_wildcards(tmp_path):
    for name in ("script", "[1].wav", "1.wav"):
        (tmp_path / name).write_text(script())
    typed = "source ./script; COMP_WORDS=(asr transcribe ./); COMP_CWORD=2; _asr"
    command = f"{typed}; printf '%s\\n' \"${{COMPREPLY[@]}}\"; echo *.wav"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    *found, wavs = done.stdout.splitlines()
    assert {"./[1].wav", "./1.wav"} <= set(found)
    assert wavs == "1.wav [1].wav"  # wildcards still work in the shell


@pytest.mark.parametrize("verb", SUB_VERBS)
def test_argparse_can_format_the_help(verb, capsys, monkeypatch):  # as Python 3.14 does at once
    monkeypatch.setattr(pages, "_text", lambda action: (action.help or "") % vars(action))
    with pytest.raises(SystemExit):
        main([*verb.split(), "--help-all"])


@pytest.mark.parametrize("verb", [*VERBS, *SUB_VERBS])
def test_help_of_every_verb_fits_two_screens(verb, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    try:
        main([*verb.split(), "--help"])
    except SystemExit as ended:
        assert not ended.code
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= MOST
    assert max(map(len, lines)) <= 80
    assert "(default: null)" not in lines


def test_help_in_a_narrow_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    assert 20 < max(map(len, parser().format_help().splitlines())) <= pages.NARROW


@pytest.mark.parametrize("made", [pages.Parser("asr x"), make_parser("asr x", None)])
def test_options_are_required_or_not_and_never_empty(made):
    made.add_argument("--in_file", required=True, help="a file")
    made.add_argument("--map", help="a map")
    made.add_argument("--note", default="", help="a note")
    assert "a file (required)" in made.format_help()
    assert made.parse_args(["--in-file", "f", "--note", ""]).note == ""
    for options in (["--in-file", ""], ["--in-file", "f", "--map="]):
        with pytest.raises(InputError, match=r"--(in-file|map): an empty value; give one"):
            made.parse_args(options)


def test_inputs_after_an_option_are_explained():
    made = parser()
    made.add_argument("files", nargs="*", help="files")
    with pytest.raises(InputError, match=r"arguments: b: name all inputs side by side"):
        made.parse_args(["a", "--rare", "b"])
