"""Command lines: settings from files and options; errors name the source."""

import os

import pytest

from asr.config import TrainConfig
from asr.config.args import add_settings, from_args, make_parser, number
from asr.config.field import FRACTION, at_least
from asr.config.help import Parser
from asr.errors import InputError


def parse(*args: str) -> TrainConfig:
    parser = make_parser("asr example", "An example.")
    parser.add_argument("--out")
    parser.add_argument("--count", type=number(int, at_least(1)), default=1)
    parser.add_argument("--names", nargs="+", default=[])
    parser.add_argument("--folder", action="append", default=[])
    parser.add_argument("--strict", action="store_true")
    parser.add_argument("--by", choices=("ctc", "attention"), default="ctc")
    add_settings(parser, TrainConfig)
    return from_args(TrainConfig, parser, args)[0]


@pytest.fixture
def file(tmp_path):
    """A function that writes a file of settings."""

    def write(text: str) -> str:
        (tmp_path / "c.yaml").write_text(text)
        return str(tmp_path / "c.yaml")

    return write


def test_the_command_line_overrides_the_file(file):
    path = file("epochs: 3\npatience: 2\nout: exp\nmodel:\n  encoder:\n    units: 8\n")
    config = parse("--config", path, "--epochs", "5", "--model.decoder.units", "9")
    assert (config.epochs, config.patience) == (5, 2)
    assert (config.model.encoder.units, config.model.decoder.units) == (8, 9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs: many", "c.yaml: epochs = many, expected a whole number; see asr example --help"),
        ("epochs: 0", "c.yaml: epochs = 0, expected 1 or more"),
        ("epoch: 5", "c.yaml: epoch: no such setting"),
        ("out: &a [*a]", r"c.yaml: out = \[\[.*, expected text; see asr example --help"),
        ("out:\n  epochs: 5", r"c.yaml: out = \{'epochs': 5\}, expected text"),
        ("out: 3", "c.yaml: out = 3, expected text"),
        ("count: 0", "c.yaml: count = 0, expected 1 or more; see asr example --help"),
        ("count: 1.5", "c.yaml: count = 1.5, expected a whole number"),
        ("names: abc", "c.yaml: names = abc, expected a list of texts"),
        ("folder: [3]", r"c.yaml: folder = \[3\], expected a list of texts"),
        ("strict: maybe", "c.yaml: strict = maybe, expected true or false"),
        ("by: ear", "c.yaml: by = ear, expected one of ctc, attention"),
        (
            "model:\n  encoder:\n    units: .nan",
            "c.yaml: model.encoder.units = nan, expected a",
        ),
        ("out: a\nout.b: 1", "c.yaml: out = a, expected a value or a table of settings, not both"),
        ("loss.ctc_weight: 2", "c.yaml: loss.ctc_weight = 2.0, expected 0 or more"),
        ("optim:\n  kind: adam\n", "c.yaml: optim.kind: no such setting, expected one of"),
    ],
)
def test_errors_name_the_file(file, text, message):
    with pytest.raises(InputError, match=message):
        parse("--config", file(text))


@pytest.mark.parametrize("text", ["", "optim:\n", "names: []\nout: null\nstrict: true\ncount: 2\n"])
def test_files_may_leave_values_out(file, text):
    assert parse("--config", file(text)) == TrainConfig()


def test_settings_do_not_come_from_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, found in (("pipe", "a pipe; name a YAML"), (".", "a folder"), ("no", "no such file")):
        with pytest.raises(InputError, match=f"--config .*: {found}"):
            parse("--config", str(tmp_path / name))


def test_a_section_is_no_option():
    with pytest.raises(InputError, match=r"--batch: a section of settings; name one of them"):
        parse("--batch", "8")


def test_an_option_can_resolve_a_conflict_in_a_file(file):
    path = file("features:\n  high_freq_hz: 9000\n")
    assert parse("--config", path, "--features.sample_rate", "22050").features.high_freq_hz == 9000
    with pytest.raises(InputError, match=r"^features\.low_freq_hz = 20\.0, expected 0 <= low"):
        parse("--config", path)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--epochs", "0", "^epochs = 0, expected 1 or more; see asr example --help"),
        ("--epochs", "many", "^epochs = many, expected a whole number; see asr example --help"),
        ("--optim.decay", "sine", r"^optim\.decay = sine, expected one of cosine, none"),
        ("--augment.speeds", "fast", r"^augment\.speeds = fast, expected a list of numbers"),
        ("--seed", "-1", "^seed = -1, expected 0 to"),
        (
            "--model.attention.filter_width",
            "4",
            r"^model\.attention\.filter_width = 4, expected",
        ),
        ("--augment.speeds", "[0.0]", r"^augment\.speeds = .*, expected factors"),
        ("--optim.learning_rate", "nan", "optim.learning_rate"),
        ("--no_such", "1", "no_such"),
        ("--model", '{"encoder": {"units": "x"}}', r"^model\.encoder\.units = x, expected a whole"),
        ("--config", "{count: 0}", "^--config {count: 0}: no such file$"),
        ("--config", "/", "^--config /: a folder; name a YAML file$"),
        ("--config", "conf/nowhere.yaml", "^--config conf/nowhere.yaml: no such file$"),
    ],
)
def test_errors_name_the_option(option, value, message):
    with pytest.raises(InputError, match=message):
        parse(option, value)


def test_missing_options_are_named_with_their_dashes():
    parser = make_parser("asr example", "An example.")
    parser.add_argument("data")
    for name in ("-o", "--dev_set"):
        parser.add_argument(name, *(["--out"] if name == "-o" else []), required=True)
    with pytest.raises(InputError, match="required: data, --out, --dev-set; see asr example"):
        parser.parse_args([])


def test_numbers_of_other_options_are_checked():
    parser = Parser("asr example")
    parser.add_argument("--count", type=number(int, at_least(1)))
    parser.add_argument("--share", type=number(float, FRACTION))
    found = parser.parse_args(["--count", "2", "--share", "1"])
    assert (found.count, found.share) == (2, 1.0)
    for option, value, expected in (
        ("--count", "0", "argument --count: 0, expected 1 or more"),
        ("--count", "1.5", "argument --count: 1.5, expected a whole number"),
        ("--share", "nan", "argument --share: nan, expected 0 to 1"),
        ("--share", "half", "argument --share: half, expected a number"),
    ):
        with pytest.raises(InputError, match=f"^{expected}; see asr example --help"):
            parser.parse_args([option, value])
