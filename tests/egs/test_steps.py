"""The stages that recipes share, with a stand-in for ``asr`` that notes how it was called."""

import pytest

SCRIPT = """
stage=4
stop_stage=7
dir=exp/las
seed=1
seeds=
device=cpu
threads=1
train_config=train.yaml
train_options=
decode_config=decode.yaml
decode_options=
decode_tag=beam
decode_nj=1
ngpu=0
nodes=1
requeue=false
force=false
PATH=$PWD/bin:$PATH
train=train
dev=dev
tokens=tokens.txt
train_cmd=utils/run_local.sh
decode_cmd=utils/run_local.sh
. utils/stages.sh
. utils/parse_options.sh
. utils/steps.sh
set -euo pipefail
{more}
train_stage 4 {train}
decode_stage 5 dev test
score_stage 6 dev test
transcribe_stage 7 test
if in_range 7; then
  show_transcript test
fi
"""

ASR = """#!/usr/bin/env bash
echo "asr $*" >>calls
verb=$1
while [ $# -gt 0 ]; do
  if [ "$1" = --out ]; then out=$2; fi
  if [ "$1" = --seed ]; then seed=$2; fi
  shift
done
case $verb in
  train) echo "weights of $seed" >"$out/final.safetensors" ;;
  decode) [ ! -e broken ] && echo "a ONE" >"$out/text" && touch "$out/results.jsonl" ;;
  score) mkdir -p "$out/scoring_kaldi" && echo "%WER 5.00 $out" >"$out/scoring_kaldi/best_wer" ;;
  transcribe) echo "ONE" ;;
esac
"""


@pytest.fixture
def run(bash, recipe):
    (recipe / "bin").mkdir()
    (recipe / "bin" / "asr").write_text(ASR)
    (recipe / "bin" / "asr").chmod(0o755)
    for name in ("train.yaml", "decode.yaml", "tokens.txt"):
        (recipe / name).touch()
    for name in ("train", "dev", "test"):
        folder = recipe / "data" / name
        folder.mkdir(parents=True)
        (folder / "wav.scp").write_text(f"a {recipe}/a b.wav\n")
        (folder / "text").write_text("a TWO ONE\n")
        for table in ("utt2spk", "utt2num_frames", "cmvn.ark"):
            (folder / table).touch()
    (recipe / "a b.wav").touch()

    def run(*arguments, train="", more=""):
        return bash(SCRIPT.replace("{train}", train).replace("{more}", more), *arguments)

    return run


def calls(recipe):
    lines = (recipe / "calls").read_text().splitlines()
    (recipe / "calls").write_text("")
    return [line.split() for line in lines]


def test_every_stage_once(run, recipe):
    result = run()
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        "stage 4: training",
        "stage 5: decoding dev",
        "stage 5: decoding test",
        "stage 6: scoring dev",
        "stage 6: scoring test",
        f"stage 7: transcribing {recipe}/a b.wav",
        f"{recipe}/a b.wav",
        "  said:  TWO ONE",
        "  heard: ONE",
    ]
    train, decode, *_ = calls(recipe)
    assert " ".join(train) == (
        "asr train --config train.yaml --train data/train --dev data/dev --tokens tokens.txt "
        "--out exp/las --seed 1 --device cpu --threads 1"
    )
    assert " ".join(decode) == (
        "asr decode --config decode.yaml --model exp/las --data data/dev "
        "--out exp/las/decode_dev_beam --device cpu --threads 1"
    )
    again = run()
    assert again.stdout.count("done already") == 6
    assert calls(recipe) == []


def test_features_among_the_options_of_a_training_are_refused(run):
    result = run("--train-options", "--epochs 2 --features.level true")
    assert result.returncode == 2
    assert "write the features into a file for --train-config" in result.stderr


def test_a_set_is_decoded_in_parts(run, recipe):
    result = run("--stop-stage", "5", "--decode-nj", "2")
    assert result.returncode == 0, result.stderr
    options = "--out exp/las/decode_dev_beam"
    shown = [" ".join(call) for call in calls(recipe)][1:4]
    whole = "asr decode --config decode.yaml --model exp/las --data data/dev"
    end = "--device cpu --threads 1 --part"
    assert sorted(shown[:2]) == [f"{whole} {options} {end} {n}/2" for n in (1, 2)]
    assert shown[2] == f"asr decode --data data/dev {options} --merge"
    assert (recipe / "exp/las/decode_dev_beam/log/decode.2.log").is_file()


def test_a_training_on_several_gpus_and_nodes(run, recipe):
    """The job gets what it needs; torchrun starts the training."""
    note = (
        "train_cmd=note\nnote() { echo $* >>calls; mkdir -p $dir; touch $dir/final.safetensors; }"
    )
    options = ["--stop-stage", "4", "--ngpu", "8", "--nodes", "4", "--requeue", "true"]
    assert run(*options, "--device", "cuda", more=note).returncode == 0
    assert " ".join(calls(recipe)[0]).startswith(
        "--gpu 8 --num-nodes 4 --requeue true exp/las/log/train.log "
        "utils/torchrun.sh 8 4 asr train --config train.yaml"
    )
    refused = run("--ngpu", "two")
    assert refused.returncode == 2 and "--ngpu two: expected a number" in refused.stderr


def test_several_nodes_need_slurm(bash):
    result = bash("utils/torchrun.sh 8 4 asr train")
    assert result.returncode == 2 and "4 nodes: only slurm.sh starts a job" in result.stderr


def test_a_training_goes_on_with_changed_settings(run, recipe):
    run("--stop-stage", "4")
    result = run("--stop-stage", "4", train="--epochs 9 --change epochs")
    assert result.returncode == 0 and "the old contents of" not in result.stdout
    for same in ("--epochs 9", "--epochs 9 --batch.workers 1"):
        assert "done already" in run("--stop-stage", "4", train=same).stdout
    result = run("--stop-stage", "4", train="--epochs 12")
    assert "the old contents of exp/las are now in" in result.stdout


def test_a_wrong_option_of_a_training_is_told_before_it_begins(run, recipe):
    result = run(train="--epochs many")
    assert result.returncode == 2
    assert "asr train: epochs = many, expected a whole number" in result.stderr
    assert not (recipe / "calls").exists()


def test_the_same_files_named_from_another_folder(run, recipe):
    run("--stop-stage", "4", more='train_config=$(of_caller "$train_config")')
    assert len(calls(recipe)) == 1
    named = f"{recipe}/train.yaml"
    result = run("--train-config", named, more='train_config=$(of_caller "$train_config")')
    assert "stage 4: training: done already" in result.stdout


def test_parts_of_another_number_of_jobs_are_removed(run, recipe):
    old = recipe / "exp/las/decode_dev_beam/split3/1"
    old.mkdir(parents=True)
    assert run("--stop-stage", "5", "--decode-nj", "2").returncode == 0
    assert not old.parent.exists()


def test_several_seeds(run, recipe):
    result = run("--seeds", "1 22")
    assert result.returncode == 0, result.stderr
    stages = [line for line in result.stdout.splitlines() if line.startswith("stage")]
    assert stages[:4] == [
        "stage 4: training (seed 1)",
        "stage 4: training (seed 22)",
        "stage 5: decoding dev (seed 1)",
        "stage 5: decoding test (seed 1)",
    ]
    assert (recipe / "exp/las_seed1/final.safetensors").read_text() == "weights of 1\n"
    assert (recipe / "exp/las_seed22/final.safetensors").read_text() == "weights of 22\n"
    assert (recipe / "exp/las_seed22/decode_test_beam/scoring_kaldi/best_wer").exists()
    assert not (recipe / "exp/las").exists()
    calls(recipe)
    run("--seeds", "1 22 3", "--stop-stage", "4")  # one more: the others are done
    assert next(c for c in calls(recipe) if c[1] == "train")[-5] == "3"


def test_a_failure_tells_how_to_go_on_with_all_seeds(run, recipe):
    (recipe / "broken").touch()
    result = run("--seeds", "1 2", "--stage", "4")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].endswith("run.sh --stage 5 --seeds '1 2'")
    (recipe / "broken").unlink()
    assert run("--stage", "5", "--seeds", "1 2").returncode == 0


@pytest.mark.parametrize("seeds", ["1,2", "one", "1 -2", " ", "$(touch x)"])
def test_seeds_are_numbers(run, recipe, seeds):
    result = run("--seeds", seeds)
    assert result.returncode == 2
    assert f"--seeds {seeds}: expected numbers" in result.stderr
    assert not (recipe / "x").exists()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--stage", "four"], "--stage four: expected a stage number; --help lists them"),
        (["--stop-stage", "5.5"], "--stop-stage 5.5: expected a stage number; --help lists them"),
        (["--stage", "9"], "--stage 9 --stop-stage 7: the first stage comes after the last one"),
    ],
)
def test_stages_are_numbers_in_order(run, options, complaint):
    result = run(*options)
    assert result.returncode == 2
    assert complaint in result.stderr


def test_the_same_set_with_other_settings(run, recipe):
    (recipe / "greedy.yaml").touch()
    other = "decode_tag=greedy decode_config=greedy.yaml"
    result = run(more=f"train_stage 4; {other} decode_stage 5 dev; {other} score_stage 6 dev")
    assert result.returncode == 0, result.stderr
    assert (recipe / "exp/las/decode_dev_greedy/text").exists()
    assert (recipe / "exp/las/decode_dev_beam/text").exists()
    configs = [c[c.index("--config") + 1] for c in calls(recipe) if c[1] == "decode"]
    assert configs == ["greedy.yaml", "decode.yaml", "decode.yaml"]


def test_noise_among_the_options_is_an_input(run, recipe):
    (recipe / "noise").mkdir()
    for content, trained in (("rain", 1), ("rain", 0), ("wind", 1)):
        (recipe / "noise" / "a.txt").write_text(content)
        run("--stop-stage", "4", train="--augment.noise_dir noise")
        assert len(calls(recipe)) == trained


def test_models_among_the_options_are_inputs(run, recipe):
    model = recipe / "other model" / "final.safetensors"
    model.parent.mkdir()
    model.write_text("old")
    options = {"train": "'--init=other model'"}
    run("--stop-stage", "4", **options)
    assert calls(recipe)[0][-2:] == ["--init=other", "model"]
    run("--stop-stage", "4", **options)
    assert calls(recipe) == []
    (model.parent / "RESULTS").touch()  # only the model of a folder counts
    run("--stop-stage", "4", **options)
    assert calls(recipe) == []
    model.write_text("new")
    result = run("--stop-stage", "4", **options)
    assert calls(recipe)[0][1] == "train"
    assert "the old contents of" in result.stdout
    (recipe / "lm").symlink_to(model)
    run("--decode-options", "--lm=lm", "--stop-stage", "5", **options)
    assert [c[1] for c in calls(recipe)] == ["decode", "decode"]
    model.write_text("newer")
    run("--decode-options", "--lm=lm", "--stage", "5", "--stop-stage", "5", **options)
    assert [c[1] for c in calls(recipe)] == ["decode", "decode"]


def test_a_model_of_the_package_is_an_input(run, recipe):
    for trained in (1, 0):
        assert run("--stop-stage", "4", train="--init an4").returncode == 0
        assert len(calls(recipe)) == trained
    missing = run("--stop-stage", "4", train="--init an5")
    assert missing.returncode == 2 and "an5: no such model" in missing.stderr
    assert calls(recipe) == []


def test_a_folder_with_a_space(run, recipe):
    result = run("--dir", "exp/my model")
    assert result.returncode == 0, result.stderr
    assert (recipe / "exp/my model/decode_dev_beam/scoring_kaldi/best_wer").exists()


def test_folders_of_one_name_have_stages_of_their_own(run, recipe):
    run()
    calls(recipe)
    result = run("--dir", "exp/second/las/")
    assert result.returncode == 0, result.stderr
    assert [c[1] for c in calls(recipe)][:2] == ["train", "decode"]
    assert (recipe / "exp/second/las/final.safetensors").exists()


def test_other_audio_under_the_old_name_is_noticed(run, recipe):
    run("--stop-stage", "5")
    calls(recipe)
    (recipe / "a b.wav").write_text("another recording")
    run("--stop-stage", "5")
    assert [c[1] for c in calls(recipe)] == ["train", "decode", "decode"]


@pytest.mark.parametrize("setting", ["word_lm: a b.txt  # look-ahead", "hotwords: 'a b.txt'"])
def test_files_in_the_search_settings_are_inputs(run, recipe, setting):
    (recipe / "a b.txt").write_text("old")
    (recipe / "decode.yaml").write_text(f"lm: ''\n{setting}\n")
    run("--stop-stage", "5")
    calls(recipe)
    (recipe / "a b.txt").write_text("new")
    run("--stop-stage", "5")
    assert [c[1] for c in calls(recipe)] == ["decode", "decode"]


def test_a_lost_list_of_hypotheses_is_made_again(run, recipe):
    run("--stop-stage", "5")
    calls(recipe)
    (recipe / "exp/las/decode_dev_beam/results.jsonl").unlink()
    run("--stop-stage", "5")
    assert [c[1] for c in calls(recipe)] == ["decode"]


def test_settings_of_stages_that_are_not_asked_for_are_not_read(run, recipe):
    """Such as the weights of the search, which a later stage chooses."""
    (recipe / "decode.yaml").unlink()
    result = run("--stop-stage", "4")
    assert result.returncode == 0
    assert result.stderr == ""
