"""Trainings that imitate other models."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from asr.errors import InputError
from asr.store.model_file import read_model, save_model
from asr.train.augment import noise_files
from asr.train.loop import Interrupted, Training


def start(config, corpus, out):
    paths = (str(corpus / name) for name in ("train", "dev", "tokens.txt"))
    return Training(config, *paths, out)


@pytest.fixture
def short(tiny_training):
    return replace(tiny_training, epochs=1, average=1, passes=1)


@pytest.fixture
def teachers(short, tone_corpus, tmp_path):
    """Two models of other seeds."""
    for seed in (7, 8):
        start(replace(short, seed=seed), tone_corpus, tmp_path / f"{seed}").run()
    return f"{tmp_path}/7, {tmp_path}/8"


def test_the_decoder_learns_the_mean_of_its_teachers(teachers, short, tone_corpus, tmp_path):
    """With all weight on them, and resumed after the second step."""
    loss = replace(short.loss, distill=1.0)
    config = replace(short, teachers=teachers, loss=loss)
    training = start(config, tone_corpus, tmp_path / "whole")
    batch = training.data.train.batch([(0, 0), (0, 5)])
    posteriors = training.step.teachers(batch)
    for row in range(len(batch.ids)):
        one = batch.select([row])
        alone = [training.step.teachers.models[i] for i in range(2)]
        forced = []
        for model in alone:
            read = torch.cat([torch.tensor([[model.eos]]), one.tokens], dim=1)
            memory = model.encode(one.features, one.frames)
            forced.append(model.decoder(read, one.lengths + 1, memory)[0].softmax(-1))
        length = int(one.lengths) + 1
        torch.testing.assert_close(posteriors[row, :length], sum(forced)[0] / 2)
    training.run()
    stopped = start(config, tone_corpus, tmp_path / "parts")
    step = stopped._step
    stopped._step = lambda *args: (step(*args), stopped.progress.step == 2 and stopped.stop())
    with pytest.raises(Interrupted):
        stopped.run()
    start(config, tone_corpus, tmp_path / "parts").run()
    whole, parts = (read_model(tmp_path / name)[1] for name in ("whole", "parts"))
    assert all(np.array_equal(value, parts[name]) for name, value in whole.items())


def test_replaced_teachers_and_noise_are_noticed(teachers, short, tone_corpus, tmp_path):
    (tmp_path / "noise").mkdir()
    for name in ("a", "b"):
        soundfile.write(tmp_path / "noise" / f"{name}.wav", np.ones(1600) / 9, 16000)
    augment = replace(short.augment, noise_prob=0.5, noise_dir=str(tmp_path / "noise"))
    config = replace(short, teachers=teachers, augment=augment)
    stopped = start(config, tone_corpus, tmp_path / "las")
    step = stopped._step
    stopped._step = lambda *args: (step(*args), stopped.stop())
    with pytest.raises(Interrupted):
        stopped.run()
    (tmp_path / "noise" / "b.wav").unlink()
    noise_files.cache_clear()
    with pytest.raises(InputError, match=r"augment.noise_dir has other files.* --change augment.n"):
        start(config, tone_corpus, tmp_path / "las")
    soundfile.write(tmp_path / "noise" / "b.wav", np.ones(1600) / 9, 16000)
    noise_files.cache_clear()
    shutil.copy(tmp_path / "7/final.safetensors", tmp_path / "8/final.safetensors")
    with pytest.raises(InputError, match=r"last.pt: teachers has other files than when this"):
        start(config, tone_corpus, tmp_path / "las")
    paths = (str(tone_corpus / name) for name in ("train", "dev", "tokens.txt"))
    Training(config, *paths, tmp_path / "las", change=["teachers"])


def test_teachers_of_other_features_are_refused(teachers, short, tone_corpus, tmp_path):
    features = replace(short.features, cmvn="none")
    with pytest.raises(InputError, match=r"teachers: .*7 has other features than this training"):
        config = replace(short, features=features, teachers=teachers)
        start(config, tone_corpus, tmp_path / "other")
    with pytest.raises(InputError, match="nowhere: no such model"):
        start(replace(short, teachers=f"{tmp_path}/nowhere"), tone_corpus, tmp_path / "las")
    header, weights = read_model(f"{tmp_path}/8")
    del weights["ctc.bias"]
    save_model(header.path, weights, header)
    with pytest.raises(InputError, match=r"do not fit its settings \(Missing .*ctc\.bias.*copy"):
        start(replace(short, teachers=teachers), tone_corpus, tmp_path / "las")
