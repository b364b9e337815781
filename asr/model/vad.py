"""Speech detector with the network of Silero VAD.

The weights are those of the package ``silero-vad`` (MIT) and give the same probabilities. The
package is not imported, because that sets torch to one thread, and because its compiled model
holds its state, so that two streams could not share it. Here the state is a value.

    frame of 512 samples --magnitudes of a short Fourier transform--> 4 convolutions
        --LSTM over the frames--> probability that there is speech
"""

import warnings
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from asr.audio.resample import Resampler
from asr.audio.vad import FRAME, RATE
from asr.errors import InputError

CONTEXT = 64  # samples before a frame that the network also reads
WEIGHTS = Path("data", "silero_vad.jit")  # in the package; its safetensors file is older
NAMES = {  # prefixes of the weights in the package's model and in this module
    "stft.forward_basis_buffer": "stft_conv.weight",
    **{f"encoder.{i}.reparam_conv": f"conv{i + 1}" for i in range(4)},
    **{
        f"decoder.rnn.{w}_{g}": f"lstm.{w}_{g}_l0" for w in ("weight", "bias") for g in ("ih", "hh")
    },
    "decoder.decoder.2": "final_conv",
}


@dataclass(frozen=True)
class VadState:
    """State of the network."""

    context: Tensor
    """The last samples, (64,)."""
    hidden: Tensor
    """Output of the LSTM, (1, 128)."""
    cell: Tensor
    """Cell state of the LSTM, (1, 128)."""


class SpeechNetwork(nn.Module):
    """The network of silero-vad 6: frames of audio to speech probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 258, 256, stride=128, bias=False)  # real, then imaginary
        self.conv1 = nn.Conv1d(129, 128, 3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, 128, 3, padding=1)
        self.lstm = nn.LSTM(128, 128)
        self.final_conv = nn.Conv1d(128, 1, 1)

    def initial(self) -> VadState:
        """Return the state before any audio."""
        return VadState(torch.zeros(CONTEXT), torch.zeros(1, 128), torch.zeros(1, 128))

    @torch.no_grad()
    def forward(self, waveform: Tensor, state: VadState) -> tuple[Tensor, VadState]:
        """Detect speech in a block of audio.

        Args:
            waveform: whole frames at 16 kHz, (N,), N a multiple of 512.
            state: state after the audio before it.

        Returns:
            a probability for each frame, and the state after them.
        """
        samples = torch.cat([state.context, waveform])
        frames = samples.unfold(0, CONTEXT + FRAME, FRAME).unsqueeze(1)  # (frames, 1, 576)
        transform = self.stft_conv(functional.pad(frames, (0, 64), mode="reflect"))
        real, imaginary = transform.chunk(2, dim=1)  # (frames, 129, 4) each
        x = (real.square() + imaginary.square()).sqrt()
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = layer(x).relu()  # finally (frames, 128, 1)
        x, (hidden, cell) = self.lstm(x.squeeze(-1), (state.hidden, state.cell))
        speech = self.final_conv(x.relu().unsqueeze(-1)).sigmoid().flatten()
        return speech, VadState(samples[-CONTEXT:], hidden, cell)


def _weights(path: Path) -> dict[str, Tensor]:
    """Return the weights for 16 kHz of the package's model, under the names of this module."""
    with warnings.catch_warnings():  # torch.jit.load is deprecated
        warnings.simplefilter("ignore", DeprecationWarning)
        theirs = torch.jit.load(path)._model.state_dict()  # type: ignore[no-untyped-call]
    return {
        ours + name.removeprefix(prefix): value
        for name, value in theirs.items()
        for prefix, ours in NAMES.items()
        if name == prefix or name.startswith(prefix + ".")
    }


@lru_cache(maxsize=1)
def speech_network() -> SpeechNetwork:
    """Return the network, which all threads share.

    Raises:
        InputError: the package silero-vad is not installed or has no such weights.
    """
    spec = find_spec("silero_vad")
    folders = (spec and spec.submodule_search_locations) or []
    path = next((p for f in folders if (p := Path(f, WEIGHTS)).is_file()), None)
    if path is None:
        raise InputError(
            "silero-vad 6, which finds speech in audio, is not installed; run pip install "
            "'silero-vad>=6.2,<7' --no-deps, or choose another detector with --vad fixed"
        )
    network = SpeechNetwork().eval().requires_grad_(False)
    network.load_state_dict(_weights(path))
    return network


class SileroDetector:
    """Speech probabilities of a stream of audio, one for every 32 ms.

    Args:
        rate: sampling rate of the audio in Hz.
    """

    def __init__(self, rate: int) -> None:
        self.network = speech_network()
        self.state = self.network.initial()
        self.resampler = Resampler(rate, RATE)
        self.rest = np.zeros(0, np.float32)  # samples of an incomplete frame

    def push(self, waveform: np.ndarray) -> np.ndarray:
        """Return the probabilities of the frames that these samples complete, (N,)."""
        return self._run(self.resampler.push(waveform))

    def close(self) -> np.ndarray:
        """Return the probabilities of the remaining frames, the last one padded with silence."""
        found = [self._run(self.resampler.close())]
        if len(self.rest):
            found.append(self._run(np.zeros(FRAME - len(self.rest), np.float32)))
        return np.concatenate(found)

    def _run(self, waveform: np.ndarray) -> np.ndarray:
        samples = np.concatenate([self.rest, waveform])
        whole = len(samples) // FRAME * FRAME
        self.rest = samples[whole:]
        if whole == 0:
            return np.zeros(0, np.float32)
        found, self.state = self.network(torch.from_numpy(samples[:whole]), self.state)
        return np.asarray(found)
