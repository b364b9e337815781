"""The rules of Kaldi's option parser, one by one."""

import pytest

SCRIPT = """
nj=4
train_set=train
force=false
help_message="usage: run.sh [--nj N]"
. utils/parse_options.sh
set -euo pipefail
echo "nj=$nj train_set=$train_set force=$force rest=$*"
"""


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        ([], "nj=4 train_set=train force=false rest="),
        (["--nj", "8"], "nj=8 train_set=train force=false rest="),
        (["--train-set", "a"], "nj=4 train_set=a force=false rest="),
        (["--train_set", "a b"], "nj=4 train_set=a b force=false rest="),
        (["--train-set", "--beam 4"], "nj=4 train_set=--beam 4 force=false rest="),
        (["--train-set", "", "--nj", "-1"], "nj=-1 train_set= force=false rest="),
        (["--force", "true"], "nj=4 train_set=train force=true rest="),
        (["--nj", "1", "--nj", "2"], "nj=2 train_set=train force=false rest="),
        (["--nj", "8", "data", "--nj", "9"], "nj=8 train_set=train force=false rest=data --nj 9"),
        (["--nj", "8", "--", "--force"], "nj=8 train_set=train force=false rest=--force"),
    ],
)  # fmt: skip
def test_options_become_variables(bash, arguments, output):
    result = bash(SCRIPT, *arguments)
    assert (result.returncode, result.stdout) == (0, output + "\n")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--nj=8"], "--nj=8: write it with a space"),
        (["--unknown", "8"], "--unknown: no such option"),
        (["--nj.x", "8"], "--nj.x: no such option"),
        (["--UID", "8"], "--UID: no such option"),
        (["--nj"], "--nj: the value is missing"),
        (["--force", "yes"], "--force yes: expected true or false"),
        (["-n", "8"], "-n: options begin with two dashes"),
        (["--config"], "--config: the file is missing"),
        (["--config", "nowhere.conf"], "--config nowhere.conf: cannot read it"),
    ],
)
def test_wrong_options_end_the_script(bash, arguments, complaint):
    result = bash(SCRIPT, *arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert complaint in result.stderr


def test_variables_of_the_parser_are_no_options(bash):
    assert bash(SCRIPT, "--parse-name", "x").returncode == 2


def test_command_line_wins_over_config_file(bash, recipe):
    (recipe / "my.conf").write_text("nj=16\ntrain_set=large\n")
    result = bash(SCRIPT, "--nj", "2", "--config", "my.conf")
    assert result.stdout == "nj=2 train_set=large force=false rest=\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("nj=8\nepochs: 18\n", "my.conf:2:epochs: 18: expected name=value"),
        ("# mine\n  nj = 8\n", "my.conf:2:  nj = 8: expected name=value"),
        ("nj='8\n", "my.conf: not bash; see above"),
    ],
)
def test_a_config_file_that_is_no_list_of_options_is_refused(bash, recipe, text, complaint):
    (recipe / "my.conf").write_text(text)
    result = bash(SCRIPT, "--config", "my.conf")
    assert (result.returncode, result.stdout) == (2, "")
    assert complaint in result.stderr


def test_config_as_the_value_of_an_option(bash):
    result = bash(SCRIPT, "--train-set", "--config", "--nj", "3")
    assert result.stdout == "nj=3 train_set=--config force=false rest=\n"


def test_help(bash):
    result = bash(SCRIPT, "--nj", "2", "--help")
    assert (result.returncode, result.stdout) == (0, "usage: run.sh [--nj N]\n")


def test_a_file_of_options_is_looked_for_where_the_user_stands(bash, recipe):
    (recipe.parent / "my.conf").write_text("nj=8\n")
    script = 'caller_dir=$PWD\ncd "$(dirname "${BASH_SOURCE[0]}")"' + SCRIPT
    result = bash(script, "--config", "my.conf", cwd=recipe.parent)
    assert result.stdout.startswith("nj=8 "), result.stderr
    (recipe / "other.conf").write_text("nj=9\n")  # or else in the recipe
    assert bash(script, "--config", "other.conf", cwd=recipe.parent).stdout.startswith("nj=9 ")
