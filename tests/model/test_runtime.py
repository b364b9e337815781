"""A torch network behind the protocol of the search."""

import numpy as np
import pytest
import torch

from asr.arrays import to_numpy
from asr.bench.shape import Shape
from asr.model.runtime import TorchModel

SHAPE = Shape(batch=3, frames=90, chars=8)


@pytest.fixture
def model() -> TorchModel:
    return TorchModel(SHAPE.model().eval())


def features(*frames: int) -> list[np.ndarray]:
    chance = np.random.default_rng(1)
    return [chance.standard_normal((n, 80)).astype(np.float32) for n in frames]


def test_encode_pads_and_selects(model: TorchModel) -> None:
    together = model.encode(features(90, 60, 40))
    alone = model.encode(features(90, 60, 40)[1:2])
    ctc = together.ctc
    assert ctc is not None and ctc is together.ctc, "CTC is computed once"
    chosen = together.select([1])
    assert chosen.steps == alone.steps == together.steps[1:2]
    for found in (chosen.ctc, alone.ctc):
        assert isinstance(found, np.ndarray)
        np.testing.assert_allclose(found[0], ctc[1, : alone.steps[0]], atol=1e-5)


def test_without_ctc() -> None:
    assert TorchModel(SHAPE.model().eval(), has_ctc=False).encode(features(40)).ctc is None


@pytest.mark.parametrize("numpy", [True, False])
def test_session_equals_teacher_forcing(model: TorchModel, numpy: bool) -> None:
    model.numpy = numpy  # tensors, as on a GPU
    encoded = model.encode(features(90, 60))
    texts = [(3, 4, 5), (6,)]
    forced = model.teacher_force(encoded, texts)
    assert [len(each.log_probs) for each in forced] == [4, 2]
    assert [each.attention.shape for each in forced] == [
        (4, encoded.steps[0]),
        (2, encoded.steps[1]),
    ]
    session = model.decode(encoded, 1)
    state, rows, read = session.start(), encoded.array(np.arange(2)), [model.eos, model.eos]
    for i, write in enumerate([(3, 6), (4, model.eos)]):
        tokens = encoded.array(np.array(read))
        log_probs, alignment, state = session.step(tokens, state, rows)
        assert isinstance(log_probs, np.ndarray if numpy else torch.Tensor)
        for row, token in enumerate(write):
            found = to_numpy(log_probs)[row, token]
            assert found == pytest.approx(forced[row].log_probs[i], abs=1e-5)
            looked = to_numpy(alignment.of_row(row, encoded.steps[row]))
            np.testing.assert_allclose(looked, forced[row].attention[i], atol=1e-6)
        read = list(write)
    kept = encoded.select([0])
    state = session.select(state, rows[:1], kept)
    log_probs, _, _ = session.step(encoded.array(np.array([4])), state, rows[:1])
    assert to_numpy(log_probs)[0, 5] == pytest.approx(forced[0].log_probs[2], abs=1e-5)
