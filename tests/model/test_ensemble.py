"""An ensemble is a model whose probabilities are the means of those of its networks."""

import numpy as np
import pytest
import torch

from asr.arrays import to_numpy
from asr.bench.shape import Shape
from asr.config import DecodeConfig
from asr.model.ensemble import Ensemble
from asr.model.runtime import TorchModel
from asr.search.beam import search

SHAPE = Shape(batch=3, frames=90, chars=8)
SEARCH = DecodeConfig(beam=4, nbest=3, ctc_weight=0.4, length_bonus=0.3)


def network(seed: int, *, numpy: bool = True) -> TorchModel:
    torch.manual_seed(seed)
    model = TorchModel(SHAPE.model().eval())
    model.numpy = numpy  # False: tensors, as on a GPU
    return model


def features(*frames: int) -> list[np.ndarray]:
    chance = np.random.default_rng(1)
    return [chance.standard_normal((n, 80)).astype(np.float32) for n in frames]


def mean(*log_probs: np.ndarray) -> np.ndarray:
    return np.log(np.mean([np.exp(to_numpy(each)) for each in log_probs], axis=0))


@pytest.mark.parametrize("numpy", [True, False])
def test_probabilities_are_means(numpy: bool) -> None:
    models = [network(seed, numpy=numpy) for seed in (1, 2, 3)]
    ensemble, heard, texts = Ensemble(models), features(90, 60), [(3, 4, 5), (6,)]
    encoded, alone = ensemble.encode(heard), [model.encode(heard) for model in models]
    assert encoded.ctc is encoded.ctc, "CTC is computed once"
    np.testing.assert_allclose(to_numpy(encoded.ctc), mean(*(e.ctc for e in alone)), atol=1e-5)
    each = [m.teacher_force(e, texts) for m, e in zip(models, alone, strict=True)]
    for row, forced in enumerate(ensemble.teacher_force(encoded, texts)):
        expected = mean(*(np.array(found[row].log_probs) for found in each))
        np.testing.assert_allclose(forced.log_probs, expected, atol=1e-5)
        np.testing.assert_array_equal(forced.attention, each[0][row].attention)


@pytest.mark.parametrize("numpy", [True, False])
def test_session_equals_teacher_forcing(numpy: bool) -> None:
    ensemble = Ensemble([network(seed, numpy=numpy) for seed in (1, 2)])
    encoded = ensemble.encode(features(90, 60))
    forced = ensemble.teacher_force(encoded, [(3, 4), (6,)])
    session = ensemble.decode(encoded, 1)
    tokens, rows = (encoded.array(np.array(each)) for each in ([ensemble.eos] * 2, [0, 1]))
    log_probs, alignment, state = session.step(tokens, session.start(), rows)
    for row, token in enumerate((3, 6)):
        assert to_numpy(log_probs)[row, token] == pytest.approx(forced[row].log_probs[0], abs=1e-5)
        looked = to_numpy(alignment.of_row(row, encoded.steps[row]))
        np.testing.assert_allclose(looked, forced[row].attention[0], atol=1e-6)
    kept = encoded.select([1])  # the first utterance leaves the search
    state = session.select(state, rows[1:], kept)
    log_probs, _, _ = session.step(encoded.array(np.array([6])), state, rows[:1])
    assert to_numpy(log_probs)[0, ensemble.eos] == pytest.approx(forced[1].log_probs[1], abs=1e-5)


def test_twice_the_same_network_is_that_network() -> None:
    model, heard = network(1), features(90, 60, 40)
    ensemble = Ensemble([model, model])
    one = search(model, model.encode(heard), SEARCH)
    two = search(ensemble, ensemble.encode(heard), SEARCH)
    for alone, together in zip(one, two, strict=True):
        assert [h.tokens for h in alone] == [h.tokens for h in together]
        for h, same in zip(alone, together, strict=True):
            assert same.score == pytest.approx(h.score, abs=1e-4)


def test_alone_equals_in_a_batch() -> None:
    ensemble, heard = Ensemble([network(1), network(2)]), features(90, 60, 40)
    together = search(ensemble, ensemble.encode(heard), SEARCH)
    for each, found in zip(heard, together, strict=True):
        alone = search(ensemble, ensemble.encode([each]), SEARCH)[0]
        assert [h.tokens for h in alone] == [h.tokens for h in found]
        assert alone[0].score == pytest.approx(found[0].score, abs=1e-4)
