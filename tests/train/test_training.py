"""The training loop: reproducible, resumable to the bit, with clear errors."""

import json
import math
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import soundfile
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tones import TINY

from asr.commands.train import stopped_by_signals
from asr.config import TrainConfig
from asr.config.read import from_dict, to_dict
from asr.corpus.tables import read_table
from asr.errors import InputError
from asr.model.batch import Count
from asr.model.runtime import TorchModel
from asr.recognize import plausibility as rules
from asr.recognize.metrics import alignment_statistics
from asr.recognize.plausibility import Vocabulary, plausibility, plausibility_threshold
from asr.recognize.refine import CharacterGaussians
from asr.search.beam import search
from asr.store.average import average_models
from asr.store.model_file import copy_with_info, read_model
from asr.train import loop, report, selection
from asr.train.checkpoint import Progress, read_state, write_state
from asr.train.evaluate import SEARCH, evaluate
from asr.train.folder import RunFolder
from asr.train.loader import load_batches
from asr.train.log import Log
from asr.train.loop import Interrupted, Training
from asr.train.step import StepResult


def start(config, corpus, out):
    return Training(
        config, str(corpus / "train"), str(corpus / "dev"), str(corpus / "tokens.txt"), out
    )


def weights(path):
    return {name: torch.from_numpy(value) for name, value in read_model(path)[1].items()}


def assert_same_weights(one, other):
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


def losses(out):
    lines = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    return [(e["step"], e["loss"]) for e in lines if e["kind"] == "step"]


@pytest.fixture(scope="module")
def trained(tone_corpus, tmp_path_factory):
    """The folder of an uninterrupted training."""
    out = tmp_path_factory.mktemp("trained") / "whole"
    start(from_dict(TrainConfig, TINY), tone_corpus, out).run()
    return out


@pytest.fixture
def finished(trained, tmp_path):
    """A copy of it, which a test may change."""
    return shutil.copytree(trained, tmp_path / "whole")


def test_gradients_are_clipped(finished, tone_corpus, tiny_training):
    config = replace(tiny_training, optim=replace(tiny_training.optim, clip_norm=1e-3))
    training = start(tiny_training, tone_corpus, finished)
    training.step.config = config
    batch = training.data.train.batch([(0, 0), (0, 1)])
    found = training.step.gradient([batch], batch.count, tiny_training.loss, 5)
    norms = [p.grad.norm() for p in training.model.parameters() if p.grad is not None]
    assert found.grad_norm > 1e-3
    assert float(torch.stack(norms).norm()) == pytest.approx(1e-3, rel=1e-2)


def test_guided_attention_fades_with_the_epochs(tone_corpus, tiny_training, tmp_path):
    training, guides = start(tiny_training, tone_corpus, tmp_path / "las"), []
    training.log, batch = Mock(), training.data.train.batch([(0, 0)])

    def step(micro_batches, count, weights, rate, seed):
        guides.append(weights.guide)
        return StepResult(1.0, 1.0, 1.0, 0.0, 0.5, 1.0)

    training.step = step
    for epoch in range(3):
        training.progress.epoch = epoch
        training._step([batch], done=0.0, wait_s=0.0)
    assert guides == [1.0, 0.5, 0.0]


def test_a_training_ends_when_patience_runs_out(tone_corpus, tiny_training, tmp_path, monkeypatch):
    rates = iter([0.5, 0.4, 0.6, 0.6])
    measured = selection.evaluate
    monkeypatch.setattr(
        selection, "evaluate", lambda *a, **k: replace(measured(*a, **k), wer=next(rates))
    )
    start(replace(tiny_training, epochs=9, patience=1), tone_corpus, tmp_path / "las").run()
    lines = (tmp_path / "las" / "train.jsonl").read_text().splitlines()
    assert [e["epoch"] for e in map(json.loads, lines) if e["kind"] == "epoch"] == [1, 2, 3]


def test_attention_that_does_not_follow_the_audio_is_told(tmp_path):
    entry = {"step": 3000, "alignment": 0.1}
    assert "ALARM: after 3000 steps" in report.alarm(entry, TrainConfig(), tmp_path)
    for other in ({"step": 2999}, {"alignment": report.GOOD_ALIGNMENT}):
        assert report.alarm(entry | other, TrainConfig(), tmp_path) is None


def test_files_of_a_training(finished, tiny_training):
    assert yaml.safe_load((finished / "config.yaml").read_text()) == to_dict(tiny_training)
    assert read_model(finished)[0].config == tiny_training
    assert (finished / "pictures" / "curves.png").stat().st_size > 0
    assert (finished / "pictures" / "attention_003.png").stat().st_size > 0
    assert len(list((finished / "tensorboard").iterdir())) == 1
    log = (finished / "log" / "train.txt").read_text()
    assert "epoch 3/3" in log and "dev alignment: sharpness 0." in log
    last = json.loads((finished / "train.jsonl").read_text().splitlines()[-1])
    assert last["kind"] == "epoch" and 0 < last["alignment_sharpness"] <= 1


def test_the_mean_of_the_best_epochs_is_scored(finished, tone_corpus, tiny_training):
    training = start(tiny_training, tone_corpus, finished)
    header, _ = read_model(finished)
    assert len(header.info["average_of"]) == 2
    training.model.load_state_dict(weights(finished))
    assert training.selection.evaluate().wer == header.info["dev_wer"]


def test_of_equal_word_error_rates_the_character_error_rate_decides():
    history = [{"dev_wer": 0.1, "dev_cer": cer} for cer in (0.09, 0.05)]
    assert selection.best_epochs(history, 1) == history[1:]


def test_the_model_of_the_last_epoch_is_kept(finished, tone_corpus, tiny_training):
    """Also if it is not among the best."""
    training = start(tiny_training, tone_corpus, finished)
    history = training.progress.history
    history[-1]["dev_wer"] = 9.0
    training.selection.write(history[-1])
    training.selection.keep(history)
    assert (finished / "checkpoints" / "epoch_003.safetensors").exists()


def best_of(model, batch):
    runtime = TorchModel(model)
    encoded = runtime.encoded(model.encode(batch.features, batch.frames))
    return [found[0] for found in search(runtime, encoded, SEARCH)]


def test_plausibility_is_measured_on_correct_hypotheses(
    finished, tone_corpus, tiny_training, monkeypatch
):
    """The hypotheses serve as references; then one reference is made wrong."""
    training = start(tiny_training, tone_corpus, finished)
    batches = list(load_batches(training.data.dev, [[(0, 0), (0, 1)]]))
    training.model.eval()
    first, second = best_of(training.model, batches[0])
    decode = training.data.tokenizer.decode
    texts = dict(zip(batches[0].ids, (decode(first.tokens), decode(second.tokens)), strict=True))
    vocabulary = Vocabulary(frozenset(), 0.5)  # every word is unknown
    common = (training.data.tokenizer, tiny_training, vocabulary)
    monkeypatch.setattr(rules, "MIN_TEXTS", 2)
    scores = evaluate(training.model, batches, texts, *common)
    assert scores.wer == 0
    credits = [
        plausibility(h, len(decode(h.tokens).split()) * math.log(0.5)) for h in (first, second)
    ]
    assert scores.plausibility.threshold == pytest.approx(plausibility_threshold(credits))
    assert scores.plausibility.vocabulary is vocabulary
    texts[batches[0].ids[1]] = "C" * 30
    assert evaluate(training.model, batches, texts, *common).plausibility is None


def test_plausibility_of_correct_and_useless_hypotheses(
    finished, tone_corpus, tiny_training, monkeypatch
):
    """One is correct, one useless, and one could not be read, which is skipped."""
    training = start(tiny_training, tone_corpus, finished)
    batch = next(iter(load_batches(training.data.dev, [[(0, 0), (0, 1)]])))
    training.model.eval()
    first, second = best_of(training.model, batch)
    texts = {
        batch.ids[0]: training.data.tokenizer.decode(first.tokens),
        batch.ids[1]: "C" * 30,
        "x": "",
    }
    measured = []
    monkeypatch.setattr(rules.PlausibilityModel, "estimate", lambda *v: measured.append(v))
    vocabulary = Vocabulary(None, 0.5)
    common = (training.data.tokenizer, tiny_training, vocabulary)
    evaluate(training.model, [batch], texts, *common)
    [(right, useless, _)] = measured
    assert right.tolist() == [plausibility(first)] and useless.tolist() == [plausibility(second)]


@pytest.mark.parametrize(("weight", "beam", "bonus"), [(0.3, 8, 0.6), (0.0, 1, 0.0)])
def test_a_model_without_ctc_is_measured_greedily(
    finished, tone_corpus, tiny_training, monkeypatch, weight, beam, bonus
):
    training = start(tiny_training, tone_corpus, finished)
    batch = next(iter(load_batches(training.data.dev, [[(0, 0), (0, 1)]])))
    searches = []

    def record(runtime, encoded, config):
        searches.append((config.ctc_weight, config.beam, config.length_bonus))
        return search(runtime, encoded, config)

    monkeypatch.setattr("asr.train.evaluate.search", record)
    loss = replace(tiny_training.loss, ctc_weight=weight, consistency=0.0)
    config = replace(tiny_training, loss=loss)
    texts, vocabulary = dict.fromkeys(batch.ids, "A"), Vocabulary(None, 0.5)
    evaluate(training.model, [batch], texts, training.data.tokenizer, config, vocabulary)
    assert searches == [(weight, beam, bonus)]


def test_a_dev_batch_without_memory_is_decoded_in_parts(
    finished, tone_corpus, tiny_training, monkeypatch
):
    training = start(tiny_training, tone_corpus, finished)
    training.data.train.augment = None
    batches = list(load_batches(training.data.train, [[(0, 0), (0, 1)], [(0, 2)]]))
    names = [name for batch in batches for name in batch.ids]
    texts, vocabulary, most = dict.fromkeys(names, "A"), Vocabulary(None, 0.5), 2

    def limited(runtime, encoded, config):
        if len(encoded.steps) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB.")
        return search(runtime, encoded, config)

    def scores():
        given = batches, texts, training.data.tokenizer, tiny_training, vocabulary
        found = evaluate(training.model, *given)
        return found.attention, found.ctc, found.wer, found.cer, found.statistics.sharpness

    def failing_once(*arguments):
        failures.append(1)
        if len(failures) == 1:
            raise MemoryError
        return alignment_statistics(*arguments)

    monkeypatch.setattr("asr.train.evaluate.search", limited)
    whole, most = scores(), 1
    assert scores() == pytest.approx(whole, rel=1e-5)
    most, failures = 2, []
    with monkeypatch.context() as patch:  # after the losses have been computed
        patch.setattr("asr.train.evaluate.alignment_statistics", failing_once)
        assert scores() == pytest.approx(whole, rel=1e-5)
    most = 0
    with pytest.raises(InputError, match=r"1 utterance, .* more than memory holds"):
        scores()


def test_attention_in_a_padded_batch_equals_that_of_the_utterance_alone(
    finished, tone_corpus, tiny_training, monkeypatch
):
    """The fast form in the batch, the plain loop alone."""
    training = start(tiny_training, tone_corpus, finished)
    model, data, loss = training.model.eval(), training.data.train, tiny_training.loss
    data.augment = None  # the same audio at every reading
    texts = {u.id: u.text for u in data.utterances[:3]}
    batch = data.batch([(0, 0), (0, 1), (0, 2)])
    vocabulary = Vocabulary(None, 0.5)
    tokenizer = training.data.tokenizer
    scores = evaluate(model, [batch], texts, tokenizer, tiny_training, vocabulary, set(texts))
    assert len(set(batch.frames.tolist())) > 1  # some are padded
    monkeypatch.setattr("asr.model.fast.lookup.decoder", lambda *_: None)
    for row, name in enumerate(texts):
        alone = data.batch([(0, row)])
        with torch.no_grad():
            expected = model(alone, loss, alone.count).weights[0].numpy()
        assert scores.pictures[name].shape == expected.shape
        assert abs(scores.pictures[name] - expected).max() < 1e-5


def test_unknown_words_are_ignored_if_most_words_are_unknown():
    """As in languages without spaces, whose words are sentences; the model does not keep them."""
    sentences = frozenset(["ONETWO", "TWOONE"])
    often = Vocabulary.from_texts(sentences, ["ONETWO", "TWOTWO", "ONEONE"])
    assert often.oov_rate == 3 / 5
    assert often.log_prob("TWOTWO") == 0 and often.to_info() is None
    seldom = Vocabulary.from_texts(sentences, ["ONETWO", "TWOTWO", "TWOONE"])
    assert seldom.log_prob("TWOTWO ONEONE") == pytest.approx(2 * math.log(2 / 5))
    assert seldom.to_info() == ["ONETWO", "TWOONE"]


def test_a_mean_has_the_vocabularies_of_all(finished, tmp_path):
    header, _ = read_model(finished)
    paths = []
    for name, words in (("a", ["ONE"]), ("b", ["TWO", "ONE"]), ("c", None)):
        paths.append(tmp_path / f"{name}.safetensors")
        copy_with_info(header.path, paths[-1], {"vocabulary": words})
    target = tmp_path / "mean.safetensors"
    assert average_models(paths[:2], target)["vocabulary"] == ["ONE", "TWO"]
    assert average_models(paths, target)["vocabulary"] is None  # one has none


def test_a_model_has_the_vocabulary_of_its_training(finished, tone_corpus):
    texts = read_table(tone_corpus / "train" / "text").values()
    expected = sorted({word for text in texts for word in text.split()})
    for path in (finished, *(finished / "checkpoints").glob("epoch_*")):
        assert read_model(path)[0].info["vocabulary"] == expected


def test_the_final_model_has_the_gaussians_of_its_characters(finished):
    header, _ = read_model(finished)
    found = CharacterGaussians.from_info(header.info, header.config.features.dim, header.path)
    assert found is not None and found.characters == "ABC"


def test_the_same_seed_gives_the_same_numbers(finished, tone_corpus, tiny_training, tmp_path):
    start(tiny_training, tone_corpus, tmp_path / "again").run()
    assert losses(tmp_path / "again") == losses(finished)
    assert_same_weights(tmp_path / "again", finished)


def test_another_seed_gives_other_numbers(finished, tone_corpus, tiny_training, tmp_path):
    start(replace(tiny_training, seed=2), tone_corpus, tmp_path / "other").run()
    assert losses(tmp_path / "other") != losses(finished)


def test_workers_change_nothing(finished, tone_corpus, tiny_training, tmp_path):
    config = replace(tiny_training, batch=replace(tiny_training.batch, workers=2))
    start(config, tone_corpus, tmp_path / "workers").run()
    assert losses(tmp_path / "workers") == losses(finished)


KILLED_AFTER_STEP = """
import os, signal, sys
from asr.train import loop
from asr.commands import train as cli

step = loop.Training._step

def step_then_die(self, *args):
    step(self, *args)
    if self.progress.step == 5:
        os.kill(os.getpid(), signal.SIGKILL)

loop.Training._step = step_then_die
cli.main(sys.argv[1:])
"""


def test_killed_and_started_again_ends_with_the_same_weights(
    finished, tone_corpus, tiny_training, tmp_path
):
    """kill -9 in the middle of an epoch."""
    config, out = tmp_path / "train.yaml", tmp_path / "killed"
    config.write_text(yaml.safe_dump(to_dict(tiny_training)))
    command = [sys.executable, "-c", KILLED_AFTER_STEP, "--config", str(config)]
    command += ["--train", str(tone_corpus / "train"), "--dev", str(tone_corpus / "dev")]
    command += ["--tokens", str(tone_corpus / "tokens.txt"), "--out", str(out)]
    killed = subprocess.run(command, stderr=subprocess.DEVNULL)
    assert killed.returncode == -signal.SIGKILL
    assert len(losses(out)) == 5
    left = out / "checkpoints" / f".{'0' * 16}.tmp"  # as a kill while a file is written leaves
    left.write_bytes(b"half")
    training = start(tiny_training, tone_corpus, out)
    assert training.progress.step == 4  # the fifth was not saved yet
    assert training.progress.batch > 0  # in the middle of an epoch
    training.run()
    assert losses(out) == losses(finished)
    assert_same_weights(out, finished)
    assert not left.exists()


def test_an_epoch_that_ends_after_a_kill_is_logged_as_without(
    finished, tone_corpus, tiny_training, tmp_path
):
    """The state after the last step of an epoch is there, but not its evaluation."""
    training = start(tiny_training, tone_corpus, tmp_path / "killed")
    training.selection.evaluate = training.stop
    with pytest.raises(Interrupted):
        training.run()
    start(tiny_training, tone_corpus, tmp_path / "killed").run()
    ours, whole = (
        [
            json.loads(line)["learning_rate"]
            for line in (out / "train.jsonl").read_text().splitlines()
        ]
        for out in (tmp_path / "killed", finished)
    )
    assert ours == whole


def stop_in_a_step(training):
    """Stop as a signal handler does."""
    step = training._step

    def stop_then_step(*args):
        training.stop()
        step(*args)

    training._step = stop_then_step


def test_interrupted_and_resumed(finished, tone_corpus, tiny_training, tmp_path):
    training = start(tiny_training, tone_corpus, tmp_path / "stopped")
    stop_in_a_step(training)
    with pytest.raises(Interrupted, match="after step 1"):
        training.run()
    start(tiny_training, tone_corpus, tmp_path / "stopped").run()
    assert_same_weights(tmp_path / "stopped", finished)


def test_a_finished_training_is_left_alone(finished, tone_corpus, tiny_training):
    before = (finished / "final.safetensors").stat().st_mtime_ns
    start(tiny_training, tone_corpus, finished).run()
    assert (finished / "final.safetensors").stat().st_mtime_ns == before


def test_other_settings_in_the_same_folder_are_refused(finished, tone_corpus, tiny_training):
    with pytest.raises(InputError, match="seed was 1, is 2"):
        start(replace(tiny_training, seed=2), tone_corpus, finished)


def test_other_data_in_the_same_folder_are_refused(finished, tone_corpus, tiny_training, tmp_path):
    shutil.copytree(tone_corpus, tmp_path / "corpus")
    text = tmp_path / "corpus" / "train" / "text"
    text.write_text(text.read_text().replace("s1-00 AB", "s1-00 BA"))
    with pytest.raises(InputError, match="other training data"):
        start(tiny_training, tmp_path / "corpus", finished)


def test_other_characters_in_the_same_folder_are_refused(
    finished, tone_corpus, tiny_training, tmp_path
):
    """The same number of characters in another order."""
    shutil.copytree(tone_corpus, tmp_path / "corpus")
    tokens = tmp_path / "corpus" / "tokens.txt"
    tokens.write_text(
        tokens.read_text().replace("A ", "? ").replace("B ", "A ").replace("? ", "B ")
    )
    with pytest.raises(InputError, match="other training data, characters"):
        start(tiny_training, tmp_path / "corpus", finished)


def test_characters_that_lie_in_a_new_folder_are_kept(tone_corpus, tiny_training, tmp_path):
    """They may be the user's own; the same characters in another layout are no others."""
    config = replace(tiny_training, epochs=1)
    tokens = tmp_path / "las" / "tokens.txt"
    tokens.parent.mkdir()
    tokens.write_text("<blank> 0\n<unk> 1\n<sos/eos> 2\n")
    with pytest.raises(InputError, match=r"las/tokens\.txt: other characters than those of"):
        start(config, tone_corpus, tmp_path / "las").run()
    assert len(tokens.read_text().splitlines()) == 3
    tokens.write_text((tone_corpus / "tokens.txt").read_text().replace(" ", "  "))
    start(config, tone_corpus, tmp_path / "las").run()


def test_a_finished_model_without_the_state_of_its_training_is_kept(
    finished, tone_corpus, tiny_training, tmp_path
):
    shutil.copytree(finished, tmp_path / "las")
    shutil.rmtree(tmp_path / "las" / "checkpoints")
    with pytest.raises(
        InputError, match=r"final\.safetensors: a model whose training cannot go on"
    ):
        start(tiny_training, tone_corpus, tmp_path / "las")


def test_statistics_of_other_features_are_refused(tone_corpus, tiny_training, tmp_path):
    level = replace(tiny_training, features=replace(tiny_training.features, level=True))
    with pytest.raises(
        InputError, match=r"cmvn\.ark: made with other settings \(level was False, is True"
    ):
        start(level, tone_corpus, tmp_path / "las")


def go_on(config, corpus, out, *change):
    return Training(
        config, *(str(corpus / name) for name in ("train", "dev", "tokens.txt")), out, None, change
    )


def interrupted(config, corpus, out, epochs=1):
    """Return the folder of a training that was stopped after some epochs."""
    training = start(config, corpus, out)

    write = training.selection.write

    def write_then_stop(entry):
        write(entry)
        if entry["epoch"] == epochs:
            training.stop()

    training.selection.write = write_then_stop
    with pytest.raises(Interrupted):
        training.run()
    return out


def epochs_of(out):
    lines = map(json.loads, (out / "train.jsonl").read_text().splitlines())
    return [entry["epoch"] for entry in lines if entry["kind"] == "epoch"]


def test_with_other_threads_and_workers_it_ends_with_the_same_model(
    finished, tone_corpus, tiny_training, tmp_path
):
    """The model is the same, although the states are saved at other steps."""
    out = interrupted(tiny_training, tone_corpus, tmp_path / "other", epochs=2)
    batch = replace(tiny_training.batch, workers=2)
    others = replace(tiny_training, batch=batch, checkpoint_minutes=9.0, skip_limit=3)
    start(others, tone_corpus, out).run()
    assert_same_weights(out, finished)
    assert read_model(out)[0].config == others


def test_more_epochs_need_change(finished, tone_corpus, tiny_training):
    optim = replace(tiny_training.optim, learning_rate=0.005)
    longer = replace(tiny_training, epochs=4, optim=optim)
    with pytest.raises(InputError) as error:
        start(longer, tone_corpus, finished)
    assert "epochs was 3, is 4, optim.learning_rate was 0.01, is 0.005; " in str(error.value)
    assert "--change epochs optim.learning_rate" in str(error.value)
    assert "warmup" not in str(error.value)
    with pytest.raises(InputError, match="here: epochs was 3, is 4; "):
        go_on(longer, tone_corpus, finished, "optim.learning_rate")
    go_on(longer, tone_corpus, finished, "epochs", "optim.learning_rate").run()
    assert epochs_of(finished) == [1, 2, 3, 4]
    start(longer, tone_corpus, finished).run()  # now they are its settings


def test_with_fewer_epochs_the_mean_is_computed_again(finished, tone_corpus, tiny_training):
    state = torch.load(finished / "checkpoints" / "last.pt", weights_only=True)["model"]
    shorter = replace(tiny_training, epochs=2)
    go_on(shorter, tone_corpus, finished, "epochs").run()
    assert read_model(finished)[0].config == shorter
    again = start(shorter, tone_corpus, finished)  # now they are its settings
    assert not again.changed
    for name, value in again.model.state_dict().items():
        assert torch.equal(value, state[name]), name  # of the last step, not the mean


def test_a_changed_plan_begins_the_epoch_again(tone_corpus, tiny_training, tmp_path):
    training = start(tiny_training, tone_corpus, tmp_path / "las")
    stop_in_a_step(training)
    with pytest.raises(Interrupted):
        training.run()
    smaller = replace(tiny_training, batch=replace(tiny_training.batch, seconds=2.0))
    training = go_on(smaller, tone_corpus, tmp_path / "las", "batch.seconds")
    assert (training.progress.step, training.progress.batch) == (1, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 2}, "seed cannot change"),
        ({"model": {"encoder": {"units": 8}}}, "model.encoder.units cannot change"),
        ({"loss": {"ctc_weight": 0.7}}, "loss.ctc_weight cannot change"),
        ({"passes": 3}, "passes cannot change"),
    ],
)
def test_settings_that_cannot_change(finished, tone_corpus, tiny_training, change, message):
    values = to_dict(tiny_training)
    for key, value in change.items():
        values[key] = merge(values[key], value)
    with pytest.raises(InputError, match=message):
        names = ("seed", "model.encoder.units", "loss.ctc_weight", "passes")
        go_on(from_dict(TrainConfig, values), tone_corpus, finished, *names)


def merge(old, new):
    return {**old, **{k: merge(old[k], new[k]) for k in new}} if isinstance(new, dict) else new


def test_unknown_settings_cannot_change(tone_corpus, tiny_training, tmp_path):
    with pytest.raises(InputError, match="--change learning_rate: no such setting"):
        go_on(tiny_training, tone_corpus, tmp_path / "las", "learning_rate")


def test_epochs_are_selected_on_one_dev_set(tone_corpus, tiny_training, tmp_path, capsys):
    out = interrupted(tiny_training, tone_corpus, tmp_path / "las", epochs=2)
    (out / "checkpoints" / "epoch_001.safetensors").unlink()
    corpus = shutil.copytree(tone_corpus, tmp_path / "corpus")
    text = corpus / "dev" / "text"
    text.write_text(text.read_text().replace("BAC", "CCC"))
    with pytest.raises(InputError, match=r"other dev data.*--change dev"):
        start(tiny_training, corpus, out)
    training = go_on(tiny_training, corpus, out, "dev")
    training.progress.history[1]["dev_wer"] = 9.0  # of the other set
    training.run()
    assert "measuring the epochs so far again" in capsys.readouterr().err
    assert "epoch_001.safetensors" not in read_model(out)[0].info["average_of"]
    assert training.progress.history[1]["dev_wer"] < 9.0
    start(tiny_training, corpus, out).run()


def test_scoring_other_weights_never_touches_those_of_the_training(
    finished, tone_corpus, tiny_training, monkeypatch
):
    """Or an interruption could save a mixture of both."""
    training = start(tiny_training, tone_corpus, finished)
    before = training.model.ctc.weight.clone()

    def interrupt(model, *_):
        assert torch.equal(training.model.ctc.weight, before)
        assert not torch.equal(model.ctc.weight, before)
        raise Interrupted

    monkeypatch.setattr("asr.train.selection.evaluate", interrupt)
    with pytest.raises(Interrupted):
        training.selection.measure_again(training.progress.history[:1])


def test_the_mean_leaves_out_missing_models(tone_corpus, tiny_training, tmp_path, capsys):
    config = replace(tiny_training, average=3)
    out = interrupted(config, tone_corpus, tmp_path / "las", epochs=2)
    (out / "checkpoints" / "epoch_001.safetensors").unlink()
    (out / "checkpoints" / "epoch_002.safetensors").write_bytes(b"cut short")
    start(config, tone_corpus, out).run()
    assert read_model(out)[0].info["average_of"] == ["epoch_003.safetensors"]
    err = capsys.readouterr().err
    assert "the model of epoch 1, 2 is damaged" in err or "epoch 2, 1 is damaged" in err


def test_the_last_model_is_written_again(finished, tone_corpus, tiny_training):
    before = weights(finished / "checkpoints" / "epoch_003.safetensors")
    (finished / "final.safetensors").unlink()
    for path in (finished / "checkpoints").glob("epoch_*"):
        path.unlink()
    start(tiny_training, tone_corpus, finished).run()
    assert read_model(finished)[0].info["average_of"] == ["epoch_003.safetensors"]
    for name, value in weights(finished).items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("place", ["gradient", "evaluate", "history_entry", "epoch_line", "draw"])
def test_an_error_loses_no_work(
    finished, tone_corpus, tiny_training, tmp_path, monkeypatch, place, workers
):
    """An error in a step, during or after evaluation, or in a picture."""
    config = replace(
        tiny_training, checkpoint_minutes=9.0, batch=replace(tiny_training.batch, workers=workers)
    )
    training = start(config, tone_corpus, tmp_path / "las")
    calls = []

    def fail(*args):
        calls.append(args)
        raise RuntimeError("a wire is loose")

    if place == "draw":
        monkeypatch.setattr("asr.explain.pictures.draw_curves", fail)
        training.run()
        assert len(calls) == 1  # other pictures are drawn in processes of their own
    else:
        owners = {"gradient": training.step, "evaluate": training.selection}
        owner = owners.get(place, report)
        method = getattr(owner, place)
        monkeypatch.setattr(
            owner, place, lambda *a: method(*a) if training.progress.step < 3 else fail()
        )
        with pytest.raises(RuntimeError, match="loose"):
            training.run()
        monkeypatch.undo()
        again = start(config, tone_corpus, tmp_path / "las")
        assert again.progress.step >= 3
        again.run()
        assert epochs_of(tmp_path / "las") == [1, 2, 3]
        assert losses(tmp_path / "las") == losses(finished)
    assert_same_weights(tmp_path / "las", finished)
    assert not multiprocessing.active_children()


def test_a_training_outside_the_main_thread(finished, tone_corpus, tiny_training, tmp_path):
    training = start(tiny_training, tone_corpus, tmp_path / "las")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(training.run).result()
    assert_same_weights(tmp_path / "las", finished)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_evaluation(
    finished, tone_corpus, tiny_training, tmp_path, monkeypatch, number
):
    """The steps of the epoch are kept, and the dev set is scored after the restart."""
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_DFL)  # nohup ignores HUP
    training = start(replace(tiny_training, checkpoint_minutes=9.0), tone_corpus, tmp_path / "las")

    def search_then_signal(*args):
        os.kill(os.getpid(), number)
        return search(*args)

    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="saved after step"):
        patch.setattr("asr.train.evaluate.search", search_then_signal)
        with stopped_by_signals(training.stop):
            training.run()
    again = start(tiny_training, tone_corpus, tmp_path / "las")
    assert again.progress.epoch == 0 and again.progress.batch > 0
    again.run()
    assert_same_weights(tmp_path / "las", finished)


def test_two_trainings_do_not_share_a_folder(tone_corpus, tiny_training, tmp_path):
    training = start(tiny_training, tone_corpus, tmp_path / "las")
    with RunFolder(tmp_path / "las").lock(), pytest.raises(InputError, match="another process"):
        training.run()
    assert not (tmp_path / "las" / "config.yaml").exists()  # that of the other one stays


def test_a_state_replaced_by_another_training(tone_corpus, tiny_training, tmp_path):
    """The state was read before the other training ended."""
    slow = start(tiny_training, tone_corpus, tmp_path / "las")
    start(replace(tiny_training, skip_limit=3), tone_corpus, tmp_path / "las").run()
    with pytest.raises(InputError, match="another training has changed this file"):
        slow.run()


def test_a_signal_ends_the_averaging(finished, tone_corpus, tiny_training, monkeypatch):
    before = weights(finished)
    (finished / "final.safetensors").unlink()
    training = start(tiny_training, tone_corpus, finished)
    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="saved after step"):
        patch.setattr(
            "asr.train.selection.average_models", lambda *_: os.kill(os.getpid(), signal.SIGTERM)
        )
        with stopped_by_signals(training.stop):
            training.run()
    start(tiny_training, tone_corpus, finished).run()
    for name, value in weights(finished).items():
        assert torch.equal(value, before[name]), name


def test_a_longer_training_that_is_killed_before_the_mean_goes_on(
    finished, tone_corpus, tiny_training, monkeypatch
):
    longer, before = replace(tiny_training, epochs=4), weights(finished)
    paths = (str(tone_corpus / name) for name in ("train", "dev", "tokens.txt"))
    training = Training(longer, *paths, finished, change=["epochs"])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training.selection, "average", Mock(side_effect=KeyboardInterrupt))
        training.run()
    start(longer, tone_corpus, finished).run()
    header = read_model(finished)[0]
    assert header.config.epochs == 4 and "epoch_004.safetensors" in header.info["average_of"]
    assert any(not torch.equal(value, before[name]) for name, value in weights(finished).items())


def test_damaged_states_are_refused(finished, tone_corpus, tiny_training):
    state, before = (finished / "checkpoints" / name for name in ("last.pt", "last.1.pt"))
    whole = state.read_bytes()
    before.unlink()
    for damage, message in ((b"", "0 bytes"), (whole[:1000], "damaged"), (b"text", "damaged")):
        for path in (state, before):
            path.write_bytes(damage)
        with pytest.raises(InputError, match=message):
            start(tiny_training, tone_corpus, finished)


def test_a_damaged_state_falls_back_to_the_one_before(
    finished, tone_corpus, tiny_training, tmp_path, capsys
):
    """Also with a bit flipped in a tensor; the sound state is kept until a new one is written."""
    config = replace(tiny_training, checkpoints=3)
    out = interrupted(config, tone_corpus, tmp_path / "las", epochs=2)
    names = ("last.pt", "last.1.pt", "last.2.pt")
    states = [out / "checkpoints" / name for name in names]
    steps = [torch.load(path, weights_only=True)["progress"]["step"] for path in states]
    whole = bytearray(states[0].read_bytes())
    whole[len(whole) // 2] ^= 1
    states[0].write_bytes(whole)
    states[1].unlink()
    training = start(config, tone_corpus, out)
    assert training.progress.step == steps[2]
    shown = capsys.readouterr().err
    assert "last.pt: not a training state, or damaged (wrong checksum" in shown
    assert "going on from the state before, last.2.pt" in shown
    stop_in_a_step(training)
    with pytest.raises(Interrupted):
        training.run()
    states[0].write_bytes(b"")  # the new one is damaged, too
    assert start(config, tone_corpus, out).progress.step == steps[2]
    start(config, tone_corpus, out).run()
    assert_same_weights(out, finished)


def test_a_single_flipped_bit_of_a_state_is_found(tmp_path):
    """Or it changes nothing, as in the names of the archive."""
    path, random = tmp_path / "last.pt", np.random.default_rng(1)
    state = {"model": torch.arange(99.0), "text": "[1, 2]", "step": 7}
    write_state(path, state)
    whole, refused = path.read_bytes(), 200
    assert torch.equal(read_state(path)["model"], state["model"])
    for place in random.integers(len(whole), size=200):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        with suppress(InputError):
            found = read_state(path)
            assert torch.equal(found.pop("model"), state["model"])
            assert found == {"text": "[1, 2]", "step": 7}
            refused -= 1
    assert refused > 100


@pytest.mark.parametrize(
    "damage", [{"config": "[]"}, {"optimizer": {}}, {"progress": {"history": [{}]}}]
)
def test_other_files_are_refused_as_states(finished, tone_corpus, tiny_training, damage):
    path = finished / "checkpoints" / "last.pt"
    torch.save(torch.load(path, weights_only=True) | damage, path)
    with pytest.raises(InputError, match=r"last\.pt: damaged"):
        start(tiny_training, tone_corpus, finished)


def test_a_folder_that_cannot_be_made(tone_corpus, tiny_training, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="file"):
        start(tiny_training, tone_corpus, tmp_path / "file" / "las")
    with pytest.raises(InputError, match="proc"):
        start(tiny_training, tone_corpus, "/proc/none")


def test_batches_that_are_not_finite_are_saved_and_skipped(tone_corpus, tiny_training, tmp_path):
    config = replace(tiny_training, skip_limit=2, checkpoint_minutes=9.0)
    training = start(config, tone_corpus, tmp_path / "nan")
    with torch.no_grad():
        training.model.ctc.bias.fill_(torch.nan)
    with pytest.raises(InputError, match="2 batches were skipped"):
        training.run()
    saved = sorted((tmp_path / "nan" / "log").glob("skipped_*.pt"))
    assert len(saved) == 2
    batch = torch.load(saved[0], weights_only=True)
    assert batch["features"].shape[0] == len(batch["ids"])


def test_an_epoch_of_skipped_batches_is_not_saved(tone_corpus, tiny_training, tmp_path):
    training = start(tiny_training, tone_corpus, tmp_path / "diverged")  # fewer than skip_limit
    with torch.no_grad():
        for weight in training.model.parameters():
            weight.fill_(1e30)  # finite, but no loss is
    with pytest.raises(InputError, match=r"no batch could be used.* lower optim\.learning_rate"):
        training.run()
    assert not training.folder.state_file.exists()


def test_weights_that_are_not_finite_are_never_saved(tone_corpus, tiny_training, tmp_path):
    training = start(tiny_training, tone_corpus, tmp_path / "nan")
    update = training.optimizer.step

    def overflow():
        update()
        if training.progress.step == 2:
            training.model.ctc.bias.data.fill_(torch.inf)

    training.optimizer.step = overflow
    with pytest.raises(InputError, match="not saved again after step 3, as weights are no longer"):
        training.run()
    assert start(tiny_training, tone_corpus, tmp_path / "nan").progress.step == 2


def test_fewer_states_are_kept_from_now_on(tmp_path):
    for count, kept in ((4, 4), (2, 2)):
        folder = RunFolder(tmp_path, count)
        folder.make()
        for step in range(5):
            folder.save({"step": step})
        assert len(list((tmp_path / "checkpoints").glob("last*.pt"))) == kept


def test_a_full_disk_leaves_the_previous_checkpoint(
    finished, tone_corpus, tiny_training, tmp_path, monkeypatch
):
    training = start(tiny_training, tone_corpus, tmp_path / "full")
    stop_in_a_step(training)
    with pytest.raises(Interrupted):
        training.run()
    before = training.folder.state_file.read_bytes()

    rename = Path.replace

    def no_space(source, target):
        if target.name == "last.pt":
            raise OSError(28, "No space left on device")
        return rename(source, target)

    again = start(tiny_training, tone_corpus, tmp_path / "full")
    monkeypatch.setattr(Path, "replace", no_space)
    with pytest.raises(InputError, match=r"last\.pt: cannot write \(No space left on device\)"):
        again.run()
    monkeypatch.undo()
    assert training.folder.state_file.read_bytes() == before
    assert not list(training.folder.state_file.parent.glob(".*"))  # no half-written file is left
    start(tiny_training, tone_corpus, tmp_path / "full").run()
    assert_same_weights(tmp_path / "full", finished)


def test_tensorboard_shows_every_step_once(tmp_path):
    """A run writes steps 1 to 3 and is killed; the next one begins after step 2."""
    (tmp_path / "log").mkdir()
    for last, steps in ((0, (1, 2, 3)), (2, (3, 4))):
        log = Log(tmp_path, last, 0)
        for step in steps:
            log.record({"step": step, "epoch": 1, "loss": 10.0 * last + step}, "step")
        log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("step/loss")
    assert [(e.step, e.value) for e in events] == [(1, 1.0), (2, 2.0), (3, 23.0), (4, 24.0)]


def test_weight_decay_may_change(tone_corpus, tiny_training, tmp_path):
    old, new = (
        replace(tiny_training, optim=replace(tiny_training.optim, weight_decay=decay))
        for decay in (0.01, 0.5)
    )
    start(old, tone_corpus, tmp_path)._save()
    assert go_on(new, tone_corpus, tmp_path, "optim.weight_decay").optimizer.weight_decay == 0.5


def test_dropout_may_change(tone_corpus, tiny_training, tmp_path):
    start(tiny_training, tone_corpus, tmp_path)._save()
    encoder = replace(tiny_training.model.encoder, dropout=0.3)
    more = replace(tiny_training, model=replace(tiny_training.model, encoder=encoder))
    name = "model.encoder.dropout"
    assert go_on(more, tone_corpus, tmp_path, name).changed == [name]


def test_numbers_that_are_not_finite_are_null(tone_corpus, tiny_training, tmp_path):
    training = start(replace(tiny_training, epochs=1), tone_corpus, tmp_path / "nan")
    gradient, calls = training.step.gradient, []
    broken = StepResult(math.nan, math.inf, -math.inf, 0.0, 0.5, 1.0)

    def broken_once(*args):
        calls.append(args)
        return broken if len(calls) == 1 else gradient(*args)

    training.step.gradient = broken_once
    training.run()
    first = (tmp_path / "nan" / "train.jsonl").read_text().splitlines()[0]
    assert '"loss": null, "attention": null, "ctc": null, "consistency": 0.0, "acc' in first


def broken_pipe():
    reading, writing = os.pipe()
    os.close(reading)
    return os.fdopen(writing, "w")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full here")
@pytest.mark.parametrize("stream", [broken_pipe, partial(open, "/dev/full", "w"), lambda: None])
def test_messages_that_nobody_reads_do_not_end_a_training(tmp_path, monkeypatch, stream):
    (tmp_path / "log").mkdir()
    monkeypatch.setattr(sys, "stderr", stream())
    with closing(Log(tmp_path, 0, 0)) as log:
        log.say("lost")
        log.say("still running")
    assert "still running" in (tmp_path / "log" / "train.txt").read_text()


def test_unreadable_audio_is_left_out_and_reported(tone_corpus, tiny_training, tmp_path, capsys):
    corpus = tmp_path / "corpus"
    for name in ("train", "dev"):
        (corpus / name).mkdir(parents=True)
        for file in (tone_corpus / name).iterdir():
            (corpus / name / file.name).write_bytes(file.read_bytes())
    scp = (corpus / "train" / "wav.scp").read_text()
    broken = corpus / "broken.wav"
    broken.write_text("this is not audio")
    scp = "".join(
        f"s1-03 {broken}\n" if line.startswith("s1-03") else line + "\n"
        for line in scp.splitlines()
    )
    (corpus / "train" / "wav.scp").write_text(scp)
    (corpus / "tokens.txt").write_text((tone_corpus / "tokens.txt").read_text())
    start(replace(tiny_training, epochs=1), corpus, tmp_path / "out").run()
    assert "left out: s1-03" in capsys.readouterr().err


def break_audio(corpus, name, ids):
    """Let some entries of a set name a file that is not audio."""
    (corpus / "broken.wav").write_text("this is not audio")
    lines = (corpus / name / "wav.scp").read_text().splitlines()
    ids = ids or [line.split()[0] for line in lines]
    lines = [f"{i} {corpus}/broken.wav" if i in ids else r for r in lines for i in [r.split()[0]]]
    (corpus / name / "wav.scp").write_text("\n".join(lines) + "\n")


def test_audio_that_has_become_too_short_is_left_out_alone(
    tone_corpus, tiny_training, tmp_path, capsys
):
    corpus = shutil.copytree(tone_corpus, tmp_path / "corpus")
    short = corpus / "short.wav"
    soundfile.write(short, np.zeros(800), 16000)
    table = (corpus / "train" / "wav.scp").read_text()
    table = re.sub(r"(?m)^s1-03 .*$", f"s1-03 {short}", table)
    (corpus / "train" / "wav.scp").write_text(table)
    start(replace(tiny_training, epochs=1), corpus, tmp_path / "out").run()
    err = capsys.readouterr().err
    assert re.search(r"left out: s1-03: \d frames give \d encoder steps, its transcript needs", err)
    assert not re.search(r"step \d+ skipped", err)


def test_a_model_that_does_not_fit_into_memory(tone_corpus, tiny_training, tmp_path, monkeypatch):
    def full(*arguments):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1")

    monkeypatch.setattr(loop, "LAS", full)
    with pytest.raises(InputError, match="the model does not fit into memory; lower"):
        start(tiny_training, tone_corpus, tmp_path / "out")


def test_without_any_audio_there_is_no_model(tone_corpus, tiny_training, tmp_path, capsys):
    corpus = shutil.copytree(tone_corpus, tmp_path / "corpus")
    break_audio(corpus, "train", [])
    with pytest.raises(InputError, match="epoch 1: no batch could be used"):
        start(tiny_training, corpus, tmp_path / "out").run()
    assert "left out: s1-00: " in capsys.readouterr().err
    assert not (tmp_path / "out" / "final.safetensors").exists()
    shutil.copytree(tone_corpus, corpus, dirs_exist_ok=True)  # now the audio can be read
    start(tiny_training, corpus, tmp_path / "out").run()
    assert (tmp_path / "out" / "final.safetensors").exists()


def test_lost_audio_is_told_from_divergence_in_an_earlier_epoch(
    tone_corpus, tiny_training, tmp_path
):
    corpus = shutil.copytree(tone_corpus, tmp_path / "corpus")
    break_audio(corpus, "train", [])
    training = start(tiny_training, corpus, tmp_path / "out")
    training.progress.skipped = 1  # as after an epoch with a loss that was not finite
    with pytest.raises(InputError, match=r"no batch could be used.*run the same command to resume"):
        training.run()


def test_losses_of_an_epoch_are_means_over_what_they_count():
    progress = Progress()
    one = {"loss": 0.0, "attention": 2.0, "ctc": 2.0, "accuracy": 0.5}
    progress.add(one, Count(characters=10, utterances=10))
    progress.add({**one, "attention": 1.0, "ctc": 1.0, "accuracy": 1.0}, Count(30, 10))
    scores = Mock(statistics=None, dev_scores=dict)
    entry = report.history_entry(progress, scores, 1e-3)
    assert entry["train_attention"] == pytest.approx((20 * 2.0 + 40 * 1.0) / 60)  # <eos> counts
    assert entry["train_accuracy"] == pytest.approx((20 * 0.5 + 40 * 1.0) / 60)
    assert entry["train_ctc"] == pytest.approx((10 * 2.0 + 30 * 1.0) / 40)
    progress.sums["loss"] = 90.0
    assert report.progress_note(progress, 0.5).startswith("loss 1.500, ")


def test_sums_of_an_earlier_version_are_over_characters(finished, tone_corpus, tiny_training):
    path = finished / "checkpoints" / "last.pt"
    state = read_state(path)
    state["progress"]["sums"] = {"attention": 30.0, "ctc": 20.0, "accuracy": 5.0, "characters": 10}
    write_state(path, state)
    progress = start(tiny_training, tone_corpus, finished).progress
    entry = report.history_entry(progress, Mock(statistics=None, dev_scores=dict), 1e-3)
    assert (entry["train_attention"], entry["train_ctc"]) == (3.0, 2.0)


def test_dev_utterances_that_cannot_be_read_count_as_wrong(
    tone_corpus, tiny_training, tmp_path, capsys
):
    corpus = shutil.copytree(tone_corpus, tmp_path / "corpus")
    break_audio(corpus, "dev", [])
    start(replace(tiny_training, epochs=1), corpus, tmp_path / "out").run()
    assert "counted as wrong: s2-00: " in capsys.readouterr().err
    lines = (tmp_path / "out" / "train.jsonl").read_text().splitlines()
    (epoch,) = (e for e in map(json.loads, lines) if e["kind"] == "epoch")
    assert epoch["dev_wer"] == epoch["dev_cer"] == 1.0


@pytest.mark.skipif(os.name == "nt", reason="no process groups there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_saves_and_stops(tone_corpus, tiny_training, tmp_path, number):
    """As timeout, batch systems and a closed terminal do."""
    batch = replace(tiny_training.batch, workers=1)
    settings = replace(tiny_training, epochs=1000, batch=batch)
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(to_dict(settings)))
    command = [sys.executable, "-m", "asr", "train", "--config", str(tmp_path / "conf.yaml")]
    for name in ("train", "dev"):
        command += [f"--{name}", str(tone_corpus / name)]
    command += ["--tokens", str(tone_corpus / "tokens.txt"), "--out", str(tmp_path / "las")]
    log = tmp_path / "las" / "train.jsonl"
    attend = partial(signal.signal, number, signal.SIG_DFL)  # a script's background ignores SIGINT
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, start_new_session=True, preexec_fn=attend
    ) as training:
        while training.poll() is None and not (log.exists() and log.stat().st_size > 5000):
            time.sleep(0.05)
        for _ in range(2 if number == signal.SIGTERM else 1):  # a script passes TERM on, too
            os.killpg(training.pid, number)
        err = training.communicate()[1].decode()
    assert training.returncode == 130 and "saved after step" in err and "Traceback" not in err
    assert (tmp_path / "las" / "checkpoints" / "last.pt").is_file()
