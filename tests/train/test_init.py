"""Trainings that begin with the weights of another model."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from asr.commands import train as cli
from asr.config import TrainConfig
from asr.config.args import add_settings, from_args, make_parser
from asr.config.kinds import ATTENTIONS
from asr.config.layers import Recurrent
from asr.corpus.feature_statistics import gather
from asr.errors import InputError
from asr.store.model_file import Header, copy_with_info, read_model, save_model
from asr.text.tokenizer import CharTokenizer
from asr.train.init import BY_CHARACTER
from asr.train.loop import Interrupted, Training


def start(config, corpus, out, init=None, tokens="tokens.txt"):
    paths = [str(corpus / name) for name in ("train", "dev")]
    return Training(config, *paths, tokens and str(corpus / tokens), out, init)


def measured(corpus, features, folder):
    """A copy of the corpus with the statistics of other features."""
    shutil.copytree(corpus, folder)
    for name in ("train", "dev"):
        gather(folder / name, features)
    return folder


@pytest.fixture
def short(tiny_training):
    return replace(tiny_training, epochs=1, passes=1)


@pytest.fixture
def model(short, tone_corpus, tmp_path):
    """A model with the characters <blank> <unk> <space> A B C <sos/eos>."""
    start(short, tone_corpus, tmp_path / "first").run()
    return str(tmp_path / "first")


def test_all_weights_are_copied(model, short, tone_corpus, tmp_path):
    training = start(replace(short, seed=9), tone_corpus, tmp_path / "next", model)
    for name, value in read_model(model)[1].items():
        assert np.array_equal(training.model.state_dict()[name], value), name


def test_an_encoder_serves_another_decoder(model, short, tone_corpus, tmp_path, capsys):
    first, weights = read_model(model)
    copy_with_info(first.path, first.path, {**first.info, "vocabulary": ["OLDWORD"]})
    attention = replace(short.model.attention, kind="dot")
    other = replace(short, seed=9, model=replace(short.model, attention=attention))
    training = start(other, tone_corpus, tmp_path / "next", f"{model}:encoder")
    fresh = start(other, tone_corpus, tmp_path / "fresh").model.state_dict()
    for name, value in training.model.state_dict().items():
        expected = torch.from_numpy(weights[name]) if name.startswith("encoder.") else fresh[name]
        assert torch.equal(value, expected), name
    training.run()
    assert f"begins with the weights of {model}:encoder (SHA-256" in capsys.readouterr().err
    assert "OLDWORD" not in read_model(tmp_path / "next")[0].info["vocabulary"]
    start(other, tone_corpus, tmp_path / "next", f"{model}:encoder")
    with pytest.raises(InputError, match="began with the weights of"):
        start(other, tone_corpus, tmp_path / "next", model)


@pytest.mark.parametrize("setting", ["reset", "pyramid"])
def test_an_encoder_of_another_form_is_refused(model, short, tone_corpus, tmp_path, setting):
    encoder = replace(short.model.encoder, pyramid=(2,))
    changes = {"reset": {"reset": "before"}, "pyramid": {"encoder": encoder}}[setting]
    other = replace(short, model=replace(short.model, **changes))
    with pytest.raises(InputError, match=f"{setting} is .* there and .* here"):
        start(other, tone_corpus, tmp_path / "next", f"{model}:encoder")


def test_a_damaged_model(model, short, tone_corpus, tmp_path):
    header, weights = read_model(model)
    del weights["ctc.bias"]
    save_model(header.path, weights, header)
    with pytest.raises(InputError, match=r"do not fit its settings \('ctc.bias'\); copy or train"):
        start(short, tone_corpus, tmp_path / "next", model)


def test_characters_keep_their_rows_with_other_ids(model, short, tone_corpus, tmp_path, capsys):
    """The new table has 0 and Z, but not <space>."""
    symbols = ["<blank>", "<unk>", "0", "A", "B", "C", "Z", "<sos/eos>"]
    corpus = tmp_path / "corpus"
    shutil.copytree(tone_corpus, corpus)
    for name in ("train", "dev"):
        text = (corpus / name / "text").read_text().splitlines()
        joined = (f"{line.split()[0]} {''.join(line.split()[1:])}\n" for line in text)
        (corpus / name / "text").write_text("".join(joined))
    CharTokenizer(symbols).to_file(corpus / "tokens.txt")
    training = start(short, corpus, tmp_path / "next", model)
    old = {name: torch.from_numpy(value) for name, value in read_model(model)[1].items()}
    new = training.model.state_dict()
    torch.manual_seed(short.seed)
    fresh = type(training.model)(short.model, 20, len(symbols)).state_dict()
    for name, value in new.items():
        if name not in BY_CHARACTER:
            assert torch.equal(value, old[name]), name
            continue
        for row, before in {0: 0, 1: 1, 3: 3, 4: 4, 5: 5, 7: 6}.items():
            assert torch.equal(value[row], old[name][before]), (name, row)
        for row in (2, 6):
            assert torch.equal(value[row], fresh[name][row]), (name, row)
    training.run()
    err = capsys.readouterr().err
    assert "6 keep their weights; new, with fresh ones: 0 Z\n" in err
    assert "writes <space>, and this model will not" in err
    assert re.search(r"first before this training: dev WER \d+\.\d %", err)


def test_other_sizes_and_features_are_listed_with_a_remedy(model, short, tone_corpus, tmp_path):
    other = replace(
        short,
        features=replace(short.features, sample_rate=8000, cmvn="speaker"),
        model=replace(short.model, encoder=replace(short.model.encoder, pyramid=(2,), dropout=0.4)),
    )
    corpus = measured(tone_corpus, other.features, tmp_path / "corpus")
    with pytest.raises(InputError, match="do not fit this training") as error:
        start(other, corpus, tmp_path / "next", model)
    message = str(error.value)
    assert "features.sample_rate is 16000 there and 8000 here" in message
    assert "cmvn" not in message and "dropout" not in message
    assert "--features.sample_rate 16000 --model.encoder.pyramid '[2, 2]'," in message
    assert not (tmp_path / "next").exists()
    parser = make_parser("asr train", "")
    add_settings(parser, TrainConfig)
    config, _ = from_args(TrainConfig, parser, ["--model.encoder.pyramid", "[2, 2]"])
    assert config.model.encoder.pyramid == (2, 2)


def test_listed_layers_are_compared_instead_of_the_settings_they_replace(
    model, short, tone_corpus, tmp_path
):
    layers = (Recurrent("lstm", units=4, reduction=4),)
    encoder = replace(short.model.encoder, layers=layers, units=5)
    listed = replace(short, model=replace(short.model, encoder=encoder))
    with pytest.raises(
        InputError, match=r"layers is \[\] there and .* train with --\S*layers '\[\]',"
    ):
        start(listed, tone_corpus, tmp_path / "next", model)
    start(listed, tone_corpus, tmp_path / "listed").run()
    other = replace(listed, model=replace(listed.model, encoder=replace(encoder, units=9)))
    start(other, tone_corpus, tmp_path / "other", str(tmp_path / "listed"))


def test_mfcc_are_refused_for_a_model_of_filterbanks(model, short, tone_corpus, tmp_path):
    other = replace(short, features=replace(short.features, kind="mfcc", ceps=20))
    corpus = measured(tone_corpus, other.features, tmp_path / "corpus")
    with pytest.raises(InputError, match=r"features\.kind is fbank there and mfcc here"):
        start(other, corpus, tmp_path / "next", model)


def test_a_resumed_training_does_not_need_the_model(model, short, tone_corpus, tmp_path):
    def interrupt(out):
        training = start(short, tone_corpus, out, model)
        training._step = lambda *_: training.stop()  # what a signal does
        with pytest.raises(Interrupted):
            training.run()

    first, _ = read_model(model)
    copy_with_info(first.path, first.path, {**first.info, "vocabulary": ["OLDWORD"]})
    start(short, tone_corpus, tmp_path / "whole", model).run()
    interrupt(tmp_path / "one")
    interrupt(tmp_path / "two")
    start(short, tone_corpus, tmp_path / "one", model).run()
    shutil.rmtree(model)
    start(short, tone_corpus, tmp_path / "two", model).run()
    _, expected = read_model(tmp_path / "whole")
    for out in ("one", "two"):
        header, weights = read_model(tmp_path / out)
        for name, value in weights.items():
            assert np.array_equal(value, expected[name]), name
        words = header.info["vocabulary"]
        assert "OLDWORD" in words and len(words) > 1  # those of the other model's training, too
    start(short, tone_corpus, tmp_path / "two")  # nor its name
    start(short, tone_corpus, tmp_path / "two", model, tokens=None)  # nor its characters
    with pytest.raises(InputError, match="no such model"):
        start(short, tone_corpus, tmp_path / "two", "elsewhere")


def test_another_model_for_the_same_folder_is_refused(model, short, tone_corpus, tmp_path):
    start(short, tone_corpus, tmp_path / "next", model).run()
    start(replace(short, seed=3), tone_corpus, tmp_path / "other").run()
    with pytest.raises(InputError, match=r"began with the weights of .*first .*is another model"):
        start(short, tone_corpus, tmp_path / "next", str(tmp_path / "other"))
    with pytest.raises(InputError, match="began from scratch"):
        start(short, tone_corpus, model, str(tmp_path / "other"))


def test_without_tokens_the_characters_of_the_model_are_kept(
    model, short, tone_corpus, tmp_path, capsys
):
    training = start(short, tone_corpus, tmp_path / "next", model, tokens=None)
    assert training.data.tokenizer.symbols == read_model(model)[0].tokenizer.symbols
    with pytest.raises(InputError, match="--tokens is missing"):
        start(short, tone_corpus, tmp_path / "other", tokens=None)
    training.run()
    Path(model, "final.safetensors").unlink()
    again = start(short, tone_corpus, tmp_path / "next", tokens=None)
    assert again.data.tokenizer.symbols == training.data.tokenizer.symbols


@pytest.mark.parametrize("kind", ATTENTIONS)
def test_every_kind_of_attention_is_copied(short, tone_corpus, tmp_path, kind):
    attention = replace(short.model.attention, kind=kind)
    config = replace(short, model=replace(short.model, attention=attention))
    first = start(config, tone_corpus, tmp_path / "first")
    config_of_model = Header(config, first.data.tokenizer, first.data.cmvn, {})
    path = save_model(tmp_path / "model.safetensors", first.model.state_dict(), config_of_model)
    other = replace(config, seed=9)
    training = start(other, tone_corpus, tmp_path / "next", str(path))
    for name, value in first.model.state_dict().items():
        assert training.model.state_dict()[name].equal(value), name


def test_settings_that_are_read_are_not_replaced(tone_corpus, tmp_path):
    path = tmp_path / "out" / "config.yaml"
    path.parent.mkdir()
    path.write_text("epochs: 1  # mine")
    args = ["--train", str(tone_corpus / "train"), "--dev", str(tone_corpus / "dev")]
    args += ["--tokens", str(tone_corpus / "tokens.txt"), "--out", str(path.parent)]
    with pytest.raises(InputError, match=r"config\.yaml"):
        cli.main([*args, "--config", str(path)])
    assert path.read_text() == "epochs: 1  # mine"


def test_the_option_reaches_the_training(tone_corpus, tmp_path):
    args = ["--train", str(tone_corpus / "train"), "--dev", str(tone_corpus / "dev")]
    args += ["--tokens", str(tone_corpus / "tokens.txt"), "--out", str(tmp_path / "out")]
    args += ["--features.mel_bins", "20"]
    with pytest.raises(InputError, match="no-such-model: no such model"):
        cli.main([*args, "--init", "no-such-model"])
