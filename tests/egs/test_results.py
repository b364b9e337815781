"""Error rates are gathered with their commands."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import results

from asr.errors import InputError
from asr.score.kaldi import write_scores
from asr.score.wer import score

REFS = {f"u{n}": "ONE TWO" for n in range(10)}


def write_training(folder: Path, wrong: int, refs: dict[str, str] = REFS) -> Path:
    """A training whose decoding of dev has the first word wrong in some utterances."""
    hyps = {name: ("SIX TWO" if n < wrong else refs[name]) for n, name in enumerate(refs)}
    decoding = folder / "decode_dev_beam"
    write_scores(score(refs, hyps), decoding)
    (decoding / "log").mkdir()
    (decoding / "log" / "decode.log").write_text(
        f"# Running on a cluster\n# asr decode --model {folder.name}\n#\nasr decode: words\n"
    )
    (folder / "train.jsonl").write_text('{"kind": "epoch", "elapsed_s": 90}\n')
    return folder


@pytest.fixture
def gather(capsys) -> Callable[..., str]:
    def gather(*arguments: object) -> str:
        assert results.main([str(argument) for argument in arguments]) == 0
        return capsys.readouterr().out

    return gather


def test_one_training(gather, tmp_path):
    training = write_training(tmp_path / "las", 4)
    said = gather(training, "--command", "./run.sh --x 'a b'", "--out", tmp_path / "RESULTS")
    first, second = said.splitlines()
    assert first.startswith("decode_dev_beam: WER 20.00, 95 % interval ")
    assert first.endswith("; CER 20.00; SER 40.00")  # 3 characters of SIX against 3 of ONE
    assert second == f"{tmp_path}/RESULTS: the rates with their commands"
    lines = (tmp_path / "RESULTS").read_text().splitlines()
    assert lines[4:] == [
        "# ./run.sh --x 'a b'",
        f"# {training}: 1.5 minutes",
        "",
        "# asr decode --model las",
        f"%WER 20.00 [ 4 / 20, 0 ins, 0 del, 4 sub ] {training}/decode_dev_beam/wer_0_0.0",
        f"%WER 20.00 [ 12 / 60, 0 ins, 0 del, 12 sub ] {training}/decode_dev_beam/cer_0_0.0",
        "%SER 40.00 [ 4 / 10 ]",
        f"# {first}",
    ]


def test_a_decoding_by_an_earlier_model_is_marked(gather, tmp_path):
    training = write_training(tmp_path / "las", 4)
    for name, second in (("final.safetensors", 2), ("decode_dev_beam/text", 3)):
        (training / name).touch()
        os.utime(training / name, (second, second))
    gather(training, "--out", tmp_path / "RESULTS")
    assert "earlier model" not in (tmp_path / "RESULTS").read_text()
    os.utime(training / "decode_dev_beam/text", (1, 1))
    gather(training, "--out", tmp_path / "RESULTS")
    assert f"# by an earlier model: {training}/final" in (tmp_path / "RESULTS").read_text()


def test_commands_of_several_processes(gather, tmp_path):
    """A training by torchrun, and a decoding in parts after one as a whole."""
    training = write_training(tmp_path / "las", 4)
    logs = training / "decode_dev_beam" / "log"
    (training / "log").mkdir()
    (training / "log/train.log").write_text("# utils/torchrun.sh 8 4 asr train --seed 1\n")
    (logs / "decode.1.log").write_text("# asr decode --beam 9 --part 1/2\n")
    os.utime(logs / "decode.log", (1, 1))
    gather(training, "--out", tmp_path / "RESULTS")
    lines = (tmp_path / "RESULTS").read_text().splitlines()
    assert [line for line in lines if " asr " in line] == [
        "# utils/torchrun.sh 8 4 asr train --seed 1",
        "# asr decode --beam 9",
    ]


def test_interval_of_one_training_is_that_of_the_scoring(gather, tmp_path):
    training = write_training(tmp_path / "las", 4)
    line = (training / "decode_dev_beam/scoring_kaldi/wer_details/wer_bootci").read_text()
    low, high = line.split("[ ")[1].removesuffix(" ]\n").split(", ")
    assert f"95 % interval {low} to {high};" in gather(training)


def test_mean_of_several(gather, tmp_path):
    trainings = [write_training(tmp_path / f"las_seed{n}", n) for n in (2, 3, 4)]
    said = gather(*trainings)
    assert "mean of 3 trainings: WER 15.00 (10.00 to 20.00), 95 % interval" in said
    assert "SER 30.00 (20.00 to 40.00)" in said


def test_other_utterances_are_refused(tmp_path):
    trainings = [
        write_training(tmp_path / "a", 1),
        write_training(tmp_path / "b", 1, {"u": "ONE TWO"}),
    ]
    with pytest.raises(InputError, match=r"not the same references; decode and score again"):
        results.main([str(training) for training in trainings])


def test_nothing_scored(tmp_path):
    with pytest.raises(InputError, match="run the scoring first"):
        results.main([str(tmp_path)])


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("scoring_kaldi/best_wer", ""),
        ("scoring_kaldi/best_cer", "%WER 1.00"),
        ("scoring_kaldi/wer_details/per_utt", "u1 #csid 1 0 0\n"),
        ("scoring_kaldi/wer_details/per_utt", "u1 #csid 1 0 0 -1\n"),
        ("scoring_kaldi/wer_details/per_utt", ""),
        ("wer_0_0.0", "\xff"),
    ],
)
def test_damaged_files(tmp_path, file, content):
    training = write_training(tmp_path / "las", 1)
    path = training / "decode_dev_beam" / file
    path.write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=path.name):
        results.main([str(training)])


def test_a_training_without_logs(gather, tmp_path):
    training = write_training(tmp_path / "las", 1)
    (training / "train.jsonl").write_text("cut sho")
    (training / "decode_dev_beam/log/decode.log").unlink()
    gather(training, "--out", tmp_path / "RESULTS")
    assert "asr decode" not in (tmp_path / "RESULTS").read_text()
