"""Output: control characters, encodings, closed pipes and signals."""

import io
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from asr import cli
from asr.console import Console, Progress
from asr.terminal import Output, escaped, guarded, reader_gone


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_control_characters_are_escaped():
    assert escaped("a\x1b]0;t\x07b\x9b31m\r\x7f\u202e") == (
        r"a\u001b]0;t\u0007b\u009b31m\u000d\u007f\u202e"
    )
    others = "\ttab, 語, e\u0301, \u200d, \U0001f600\n"
    assert escaped(others) == others


def test_escaped_json_has_the_same_value():
    text = json.dumps({"a": "\x9b\u2028\u202e"}, ensure_ascii=False)
    assert json.loads(escaped(text)) == json.loads(text)


def test_direction_marks_are_escaped_only_in_terminals():
    for stream, shown in ((Terminal(), r"\u2067a"), (io.StringIO(), "\u2067a")):
        Output(stream).write("\u2067a")
        assert stream.getvalue() == shown


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_characters_outside_an_encoding_are_escaped(encoding):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    with_half = "é 語 \ud800"
    Output(stream).write(with_half)
    stream.flush()
    shown = raw.getvalue().decode(encoding)
    assert json.loads(f'"{shown}"') == with_half and "\\ud800" in shown


def test_a_console_may_use_control_characters_but_its_text_may_not():
    stream = Terminal()
    console = Console(file=stream, color_system="standard", force_terminal=True)
    console.print("[red]a\x1b]0;title[/red]\x9b31m", highlight=False)
    assert stream.getvalue() == "\x1b[31ma\\u001b]0;title\x1b[0m\\u009b31m\n"


def test_text_printed_during_a_progress_bar_is_escaped(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with guarded():
        with Progress(console=Console(stderr=True)) as bar:
            bar.add_task("working", total=2)
            print("a\x1b[31mb")
        print("c\x1b[31md")
    shown = stream.getvalue()
    assert "\x1b[?25l" in shown  # the cursor is hidden
    assert "\\u001b[?25" not in shown
    assert r"a\u001b[31mb" in shown
    assert r"c\u001b[31md" in shown


ASR = [sys.executable, "-m", "asr"]


def closed_pipe():
    """Return the writing end of a pipe whose reading end is closed."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("verb", [[], ["chars"], ["data"], ["train"]])
def test_help_without_a_reader(verb, unbuffered):
    done = subprocess.run(
        [*ASR, *verb, "--help"],
        stdout=closed_pipe(),
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_files_are_written_without_standard_streams(tmp_path, closed):
    (tmp_path / "text").write_text("u1 AB\n")
    command = f'"$0" -m asr chars "$1/text" -o "$1/tokens.txt" {closed}'
    done = subprocess.run(["bash", "-c", command, sys.executable, tmp_path], check=False)
    assert done.returncode == 0
    assert (tmp_path / "tokens.txt").read_text().startswith("<blank> 0\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full here")
@pytest.mark.parametrize("command", ["models", "--help", "--version"])
def test_a_full_disk_is_reported(command):
    with open("/dev/full", "w") as full:
        done = subprocess.run([*ASR, command], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 2
    assert b"No space left" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_closed_pipe_is_noticed_and_does_not_end_the_process(monkeypatch):
    monkeypatch.setattr(sys, "stdout", os.fdopen(closed_pipe(), "w"))
    with guarded():
        assert not reader_gone()
        print("lost", flush=True)
        assert reader_gone()
        print("lost, too", flush=True)


def test_no_control_character_of_a_name_reaches_a_terminal():
    main, other = pty.openpty()
    subprocess.run([*ASR, "models", "no\x1b]0;title\x07"], stderr=other, check=False)
    shown = os.read(main, 10_000)
    assert rb"no\u001b]0;title\u0007" in shown
    assert b"\x1b" not in shown


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_let_a_verb_clean_up(monkeypatch, capsys, number):
    tidied = []

    class Verb:
        @staticmethod
        def main(argv):
            try:
                os.kill(os.getpid(), number)
                signal.pause()
            finally:
                tidied.append(number)

    # shells ignore Ctrl-C in background processes
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, usual)
    try:
        monkeypatch.setattr(cli, "import_module", lambda name: Verb)
        assert cli.main(["chars"]) == 128 + number
        assert tidied == [number]
        assert "interrupted" in capsys.readouterr().err
        assert signal.getsignal(number) is usual
    finally:
        signal.signal(number, before)


def test_a_mistake_of_a_verb_has_a_code_of_its_own(monkeypatch, capsys):
    class Verb:
        @staticmethod
        def main(argv):
            raise ZeroDivisionError

    monkeypatch.setattr(cli, "import_module", lambda name: Verb)
    assert cli.main(["chars"]) == 70
    err = capsys.readouterr().err
    assert err.startswith("Traceback") and "ZeroDivisionError" in err
    assert err.endswith("asr chars: a mistake in asr itself; please report it\n")


def test_a_signal_that_is_ignored_stays_ignored(monkeypatch):
    class Verb:
        @staticmethod
        def main(argv):
            os.kill(os.getpid(), signal.SIGHUP)  # as under nohup
            return 0

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        monkeypatch.setattr(cli, "import_module", lambda name: Verb)
        assert cli.main(["chars"]) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_without_a_home_folder_loops_are_not_compiled(monkeypatch, capsys):
    from asr.model.fast import native

    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("ASR_NATIVE", raising=False)
    monkeypatch.setattr(native, "compiler", lambda: ["c++"])
    monkeypatch.setattr(native.Path, "home", nobody)
    assert native.library.__wrapped__() is None
    assert "set HOME or XDG_CACHE_HOME" in capsys.readouterr().err
