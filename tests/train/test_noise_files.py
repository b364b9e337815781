"""Recorded noise of a training that goes on."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from asr.errors import InputError
from asr.train.augment import noise_files
from asr.train.loop import Interrupted, Training


def test_replaced_noise_is_noticed(tiny_training, tone_corpus, tmp_path):
    def start(**options):
        paths = (str(tone_corpus / name) for name in ("train", "dev", "tokens.txt"))
        noise_files.cache_clear()
        return Training(config, *paths, tmp_path / "las", **options)

    (tmp_path / "noise").mkdir()
    for name in ("a", "b"):
        soundfile.write(tmp_path / "noise" / f"{name}.wav", np.ones(1600) / 9, 16000)
    augment = replace(tiny_training.augment, noise_prob=0.5, noise_dir=str(tmp_path / "noise"))
    config = replace(tiny_training, epochs=1, average=1, passes=1, augment=augment)
    stopped = start()
    step = stopped._step
    stopped._step = lambda *args: (step(*args), stopped.stop())
    with pytest.raises(Interrupted):
        stopped.run()
    (tmp_path / "noise" / "b.wav").unlink()
    with pytest.raises(InputError, match=r"augment.noise_dir has other files.* --change augment.n"):
        start()
    start(change=["augment.noise_dir"])
