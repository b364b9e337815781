"""Learning rates computed by hand, and the optimiser compared with torch's."""

import pytest
import torch

from asr.config import LossConfig, OptimConfig
from asr.train.adamw import AdamW
from asr.train.schedule import learning_rate
from asr.train.step import weights_at

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
def test_warm_up_plateau_decay(step, share, rate):
    assert learning_rate(step, share, CONFIG) == pytest.approx(rate)


def test_warm_up_takes_at_most_a_third_of_a_short_training():
    config = OptimConfig(learning_rate=1.0, warmup_steps=400, decay="none")
    rates = [learning_rate(step, step / 48, config) for step in (0, 8, 16, 47)]
    assert rates == [1 / 400, 0.5, 1.0, 1.0]


def test_without_decay():
    assert (
        learning_rate(9, 1.0, OptimConfig(learning_rate=2.0, warmup_steps=0, decay="none")) == 2.0
    )


def test_adamw_equals_torch():
    torch.manual_seed(1)
    ours, theirs = (
        [torch.nn.Parameter(torch.arange(6.0).view(2, 3)), torch.nn.Parameter(torch.ones(4))]
        for _ in range(2)
    )
    mine = AdamW(ours, lr=0.1, weight_decay=0.02)
    reference = torch.optim.AdamW(theirs, lr=0.1, weight_decay=0.02)
    for step in range(5):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = b.grad = torch.randn_like(a)
        if step == 3:
            ours[1].grad = theirs[1].grad = None  # a parameter that took no part
            mine.lr = reference.param_groups[0]["lr"] = 0.05
        mine.step()
        reference.step()
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b)


def test_adamw_resumes_from_its_state():
    def train(optimizer, weight, steps):
        for _ in range(steps):
            weight.grad = weight.detach() ** 2
            optimizer.step()
            optimizer.zero_grad()

    whole, part, rest = (torch.nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(3))
    train(AdamW([whole], 0.1, 0.0), whole, 5)
    first, second = AdamW([part], 0.1, 0.0), AdamW([rest], 0.1, 0.0)
    train(first, part, 3)
    rest.data = part.detach().clone()
    second.load_state_dict(first.state_dict())
    train(second, rest, 2)
    assert rest.equal(whole)
    assert rest.grad is None


def test_weights_of_the_loss_begin_and_fall():
    config = LossConfig(consistency=0.2, guide=1.0, guide_epochs=2)
    at = [weights_at(config, epoch) for epoch in range(5)]
    assert [each.consistency for each in at] == [0.2] * 5
    assert [each.guide for each in at] == [1.0, 0.5, 0.0, 0.0, 0.0]
