"""Training of character language models."""

import itertools
import math
import shutil
from dataclasses import replace

import pytest
import torch

from asr.commands import lm as cli
from asr.config import LMConfig
from asr.errors import InputError
from asr.lm.perplexity import sentence_log_probs
from asr.loading import load_lm
from asr.model.char_lm import CharLM, sentence_batch
from asr.model.loss import IGNORE
from asr.store.model_file import save_lm
from asr.text.tokenizer import CharTokenizer
from asr.train import char_lm as training

TOKENS = CharTokenizer.from_texts(["AB C"])  # blank 0, unk 1, space 2, A 3, B 4, C 5, end 6
TINY = LMConfig(epochs=40, units=16, embedding=8, dropout=0.0, batch=4, learning_rate=0.02)


def test_a_batch_of_sentences():
    inputs, targets = sentence_batch([[3, 4], [5]], eos=6)
    assert inputs.tolist() == [[6, 3, 4], [6, 5, 6]]
    assert targets.tolist() == [[3, 4, 6], [5, 6, IGNORE]]


def test_a_sentence_scores_the_same_alone_in_a_batch_and_step_by_step():
    torch.manual_seed(1)
    lm = CharLM(LMConfig(units=8, layers=2, embedding=4), len(TOKENS)).eval()
    sentences = [[3, 4, 2, 5], [5], []]
    together = lm.score(sentences)
    for sentence, score in zip(sentences, together, strict=True):
        assert float(lm.score([sentence])) == pytest.approx(float(score), abs=1e-5)
        state, total, last = lm.start(1), 0.0, lm.eos
        for token in [*sentence, lm.eos]:
            log_probs, state = lm.step(torch.tensor([last]), state, torch.tensor([0]))
            total, last = total + float(log_probs[0, token]), token
        assert total == pytest.approx(float(score), abs=1e-5)


def test_a_repeated_sentence_becomes_certain():
    train = [TOKENS.encode("A B C")] * 8
    lm, best = training.train_lm(TINY, TOKENS, train, train[:1], lambda entries: None)
    assert best["dev_loss"] < 0.05
    assert float(lm.score([TOKENS.encode("A B C")]).exp()) > 0.8
    assert float(lm.score([TOKENS.encode("C B A")]).exp()) < 0.01


def test_the_same_seed_gives_the_same_model():
    train = [TOKENS.encode(text) for text in ("A B", "B C", "C A", "A A B")]
    short = LMConfig(epochs=2, units=8, embedding=4)
    one, other = (
        training.train_lm(short, TOKENS, train, train, lambda entries: None) for _ in range(2)
    )
    assert one[1] == other[1]


def test_the_learning_rate_falls_along_a_cosine(monkeypatch):
    """Two batches an epoch; the cosines of 0, 45, 90 and 135 degrees, from 0 to 1."""
    rates = []

    def step(self, batch, rate):
        rates.append(rate)
        return 1.0, 1

    monkeypatch.setattr(training._Training, "_step", step)
    train = [TOKENS.encode("A A")] * 8
    settings = replace(TINY, epochs=2, learning_rate=1.0)
    training.train_lm(settings, TOKENS, train, train, lambda entries: None)
    assert rates == pytest.approx([1.0, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5])


def test_perplexity_by_hand():
    """ln 2 a character over A, space, B and the end; A, B and the end are three words."""
    line = training.describe(math.log(2), [TOKENS.encode("A B")], space=2)
    assert line == f"perplexity 2.000 per character, {2 ** (4 / 3):.1f} per word"


def test_the_mean_loss_is_that_of_characters_and_ends_without_dropout():
    lm = CharLM(LMConfig(units=8, embedding=4, dropout=0.5), len(TOKENS))
    loss = training.mean_loss(lm, [[3, 4], [5]], batch=2)
    assert loss == pytest.approx(-float(lm.eval().score([[3, 4], [5]]).sum()) / 5)


@pytest.fixture
def files(tmp_path):
    TOKENS.to_file(tmp_path / "tokens.txt")
    (tmp_path / "text").write_text("u1 A B\nu2 B C\n")
    (tmp_path / "plain.txt").write_text("A B\n\nB  C\n")
    return tmp_path


def lm_train(files, out, *options):
    settings = ["--epochs", "2", "--units", "8", "--embedding", "4"]
    return cli.main(
        ["train", "--text", str(files / "text"), "--dev", str(files), "--tokens",
         str(files / "tokens.txt"), "--out", str(out), *settings, *options]
    )  # fmt: skip


def test_train_and_score_from_the_command_line(files, capsys):
    assert lm_train(files, files / "lm.safetensors") == 0
    assert "per character" in capsys.readouterr().out
    assert len((files / "lm.jsonl").read_text().splitlines()) == 2
    arguments = ["--lm", str(files / "lm.safetensors"), "--tokens", str(files / "tokens.txt")]
    assert cli.main(["score", *arguments, str(files)]) == 0
    by_id = capsys.readouterr().out.split(": ")[1]
    assert cli.main(["score", *arguments, "--plain", str(files / "plain.txt")]) == 0
    assert capsys.readouterr().out.split(": ")[1] == by_id  # the same sentences


def test_files_of_other_kinds_are_refused(files, tmp_path):
    path = files / "lm.safetensors"
    lm_train(files, path)
    load_lm(path, TOKENS)
    with pytest.raises(InputError, match=r"differ in B C Z\).*recogniser's tokens.txt"):
        load_lm(path, CharTokenizer.from_texts(["AZ "]))
    with pytest.raises(InputError, match="no such language model"):
        load_lm(tmp_path / "none.safetensors", TOKENS)
    with pytest.raises(InputError, match=r"an ARPA file, .* name it with --word-lm"):
        load_lm(shutil.copy(path, tmp_path / "w.arpa.gz"), TOKENS)
    cut = shutil.copy(path, tmp_path / "cut.safetensors")
    with open(cut, "r+b") as file:
        file.truncate(500)
    with pytest.raises(InputError, match="cut short"):
        load_lm(cut, TOKENS)
    lm = CharLM(LMConfig(units=8, embedding=4), len(TOKENS))
    save_lm(path, lm.state_dict(), LMConfig(units=9, embedding=4), TOKENS, {})
    with pytest.raises(InputError, match=r"do not fit its settings \(size mismatch for"):
        load_lm(path, TOKENS)


def test_a_text_without_sentences(files):
    (files / "empty").write_text("\n")
    with pytest.raises(InputError, match="no sentence"):
        training.read_sentences(files / "empty", TOKENS)


def test_only_files_called_text_have_ids(tmp_path):
    for name, count in (("text", 2), ("book.txt", 3)):
        (tmp_path / name).write_text("AB BA CY\nB AB AB\n")
        found = training.read_sentences(tmp_path / name, CharTokenizer.from_texts(["ABCY "]))
        assert len(found[0]) == len("AB BA CY") - 3 * (count == 2)


def test_characters_without_a_token(tmp_path, capsys):
    (tmp_path / "text").write_text("AB AB AB\nAXB BA CY\n")
    assert len(training.read_sentences(tmp_path / "text", TOKENS, plain=True)) == 2
    assert "12 % of the characters are not among the tokens: X Y;" in capsys.readouterr().err
    (tmp_path / "text").write_text("ab ab\n")
    with pytest.raises(InputError, match="80 % of the characters are not among the tokens: a b;"):
        training.read_sentences(tmp_path / "text", TOKENS, plain=True)


def test_held_out_sentences_are_not_trained_on():
    sentences = [[i] for i in range(20)]
    kept, apart = training.hold_out(sentences, 0.1, seed=1)
    assert len(apart) == 2
    assert sorted(kept + apart) == sentences
    with pytest.raises(InputError, match="one sentence only"):
        training.hold_out([[3]], 0.1, seed=1)


def test_patience_ends_a_training():
    """The dev sentence does not occur in training, so that its loss soon rises."""
    entries = []
    settings = replace(TINY, patience=2)
    train, dev = [TOKENS.encode("A A")] * 8, [TOKENS.encode("C C")]
    training.train_lm(settings, TOKENS, train, dev, lambda found: entries.append(found[-1]))
    last = entries[-1]
    assert last["epoch"] == last["best"] + 2 < settings.epochs


def test_the_model_is_that_of_the_best_epoch():
    train, dev = [TOKENS.encode("A A")] * 8, [TOKENS.encode("C C")]
    short = replace(TINY, patience=2)
    lm, best = training.train_lm(short, TOKENS, train, dev, lambda entries: None)
    assert training.mean_loss(lm, dev, batch=1) == pytest.approx(best["dev_loss"])


def interrupt_after(monkeypatch, steps):
    """Ctrl-C in a later step; the state is written after each one."""
    original, count = training._Training._step, itertools.count()

    def step(self, batch, rate):
        if next(count) == steps:
            raise KeyboardInterrupt
        return original(self, batch, rate)

    monkeypatch.setattr(training._Training, "_step", step)
    monkeypatch.setattr(training, "SAVE_EVERY_S", 0.0)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_resumed_training_ends_with_the_same_model(files, monkeypatch, steps, capsys):
    options = ("--epochs", "3", "--batch", "1", "--layers", "2")  # two steps an epoch, with dropout
    whole, parts = files / "whole.safetensors", files / "parts.safetensors"
    lm_train(files, whole, *options)
    with monkeypatch.context() as patch:
        interrupt_after(patch, steps)
        with pytest.raises(KeyboardInterrupt, match="the same command continues"):
            lm_train(files, parts, *options)
    assert not parts.exists()  # the state has the best epoch so far
    with pytest.raises(InputError, match=r"state.pt: .* batch was 1, is 2; run its command again"):
        lm_train(files, parts, *options, "--batch", "2")
    torch.manual_seed(7)
    drawn = torch.get_rng_state()
    lm_train(files, parts, *options)
    assert torch.equal(torch.get_rng_state(), drawn)
    one, other = (load_lm(path, TOKENS).state_dict() for path in (parts, whole))
    assert all(torch.equal(one[name], other[name]) for name in other)
    assert (files / "parts.jsonl").read_text() == (files / "whole.jsonl").read_text()
    assert not (files / "parts.state.pt").exists()


def test_a_finished_training_is_not_repeated(files, monkeypatch, capsys):
    out, options = files / "lm.safetensors", ("--batch", "1")
    lm_train(files, out, *options)
    before = out.read_bytes()
    with monkeypatch.context() as patch:
        interrupt_after(patch, 0)
        assert lm_train(files, out, *options) == 0
        assert "this training is finished already" in capsys.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            lm_train(files, out, *options, "--epochs", "3")
    assert out.read_bytes() == before


def test_a_model_is_replaced_only_at_the_end_of_another_training(files, monkeypatch):
    out, losses = files / "lm.safetensors", iter([1.0, math.nan])
    lm_train(files, out)
    before = out.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(training, "mean_loss", lambda *_: next(losses))
        with pytest.raises(InputError, match="epoch 2: the loss is not finite"):
            lm_train(files, out, "--units", "9", "--epochs", "2")
    assert out.read_bytes() == before


def test_a_sentence_that_does_not_fit_into_memory(files, monkeypatch):
    def full(*arguments, **options):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1")

    monkeypatch.setattr(training, "nll_loss", full)
    with pytest.raises(InputError, match=r"not enough memory; the longest sentence has \d+ char"):
        lm_train(files, files / "lm.safetensors")


def test_a_diverged_training_begins_again(files, monkeypatch):
    out = files / "lm.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(training, "mean_loss", lambda *_: math.nan)
        patch.setattr(training, "SAVE_EVERY_S", 0.0)
        with pytest.raises(InputError, match="epoch 1: the loss is not finite; lower"):
            lm_train(files, out)
    assert lm_train(files, out, "--learning_rate", "1e-3") == 0


def test_the_state_of_another_training_is_refused(files, monkeypatch):
    out = files / "lm.safetensors"
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            lm_train(files, out, "--batch", "1")
    (files / "text").write_text("u1 A B\nu2 C C\n")
    with pytest.raises(InputError, match="other sentences or characters"):
        lm_train(files, out, "--batch", "1")
    with open(files / "lm.state.pt", "r+b") as file:
        file.truncate(500)
    with pytest.raises(InputError, match=r"damaged .* delete it to start over"):
        lm_train(files, out, "--batch", "1")


@pytest.mark.parametrize(("name", "value"), [("epochs", 0), ("units", -1), ("dropout", 1.0)])
def test_values_outside_the_range_of_a_setting(files, name, value):
    with pytest.raises(InputError, match=f"{name} = {value}, expected"):
        lm_train(files, files / "lm.safetensors", f"--{name}", str(value))


def test_a_sentence_scores_the_same_as_step_by_step_in_a_search():
    torch.manual_seed(1)
    lm = CharLM(LMConfig(units=8, embedding=4), len(TOKENS)).eval()
    sentences = [[3], [3, 4, 2, 5], []]
    found = sentence_log_probs(lm, sentences, lm.eos)
    assert found.tolist() == pytest.approx(lm.score(sentences).tolist(), rel=1e-5)
