"""Fixtures that several packages share."""

import os

import pytest
import torch

if not torch.cuda.is_available():  # GPU programs run in Triton's interpreter, which is slow
    os.environ.setdefault("TRITON_INTERPRET", "1")

from asr.config import AttentionConfig, DecoderConfig, EncoderConfig, ModelConfig
from asr.model.fast.product import use_precision
from asr.terminal import Quiet


@pytest.fixture(autouse=True)
def same_state(monkeypatch):
    """Every test starts with the same state, and with one thread, which suits small products.

    A training sets tiny numbers to zero, with which Hypothesis refuses to draw any.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(False)
    torch.manual_seed(0)
    use_precision("float32")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(Quiet, "on", False)


@pytest.fixture
def tiny_config() -> ModelConfig:
    """A model of a few hundred weights."""
    return ModelConfig(
        encoder=EncoderConfig(units=8, pyramid=(2, 2), dropout=0.0),
        attention=AttentionConfig(units=6, filters=2, filter_width=3),
        decoder=DecoderConfig(units=8, embedding=5, dropout=0.0),
    )
