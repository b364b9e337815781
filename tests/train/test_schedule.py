"""The learning rate by hand."""

import pytest

from asr.config import OptimConfig
from asr.train.schedule import learning_rate

CONFIG = OptimConfig(learning_rate=1.0, warmup_steps=4, decay_start=0.5, final_ratio=0.1)


@pytest.mark.parametrize(
    ("step", "share", "rate"),
    [
        (0, 0.0, 0.25),  # the first of four steps up
        (3, 0.1, 1.0),
        (9, 0.5, 1.0),  # the fall begins here
        (9, 0.75, 0.55),  # half-way down the cosine: (1 + 0.1) / 2
        (9, 1.0, 0.1),
    ],
)
def test_rise_plateau_fall(step, share, rate):
    assert learning_rate(step, share, CONFIG) == pytest.approx(rate)


def test_without_decay():
    assert (
        learning_rate(9, 1.0, OptimConfig(learning_rate=2.0, warmup_steps=0, decay="none")) == 2.0
    )
