"""Speech detector with the network of Silero VAD.

The weights come with the package ``silero-vad`` (MIT), which is not imported: on import it sets
torch to one thread for the whole process, and its compiled model keeps its state inside, so that
two streams could not share it. Here the state is a value, and everything but the LSTM works on
all chunks of a block at once. The probabilities are those of the package's own model.

    chunk of 512 samples --magnitudes of a short Fourier transform--> 4 convolutions
        --LSTM over the chunks--> probability that there is speech
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
from asr.audio.vad import CHUNK, RATE
from asr.errors import InputError

CONTEXT = 64  # samples before a chunk that the network sees too
WEIGHTS = Path("data", "silero_vad.jit")  # inside of the package; its safetensors are older ones
NAMES = {  # of the layers in the package's model, and here
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
    """Of the LSTM, (1, 128), as the cell."""
    cell: Tensor


class SpeechNetwork(nn.Module):
    """Chunks of audio to speech probabilities, with the layers of silero-vad 6."""

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 258, 256, stride=128, bias=False)  # real parts, imaginary
        self.conv1 = nn.Conv1d(129, 128, 3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, 128, 3, padding=1)
        self.lstm = nn.LSTM(128, 128)
        self.final_conv = nn.Conv1d(128, 1, 1)

    def initial(self) -> VadState:
        """The state before any audio."""
        return VadState(torch.zeros(CONTEXT), torch.zeros(1, 128), torch.zeros(1, 128))

    @torch.no_grad()
    def forward(self, waveform: Tensor, state: VadState) -> tuple[Tensor, VadState]:
        """Go on with a block of audio.

        Args:
            waveform: whole chunks at 16 kHz, (N,), N a multiple of 512.
            state: after the audio before it.

        Returns:
            A probability for each chunk, and the state after them.
        """
        samples = torch.cat([state.context, waveform])
        chunks = samples.unfold(0, CONTEXT + CHUNK, CHUNK).unsqueeze(1)  # (chunks, 1, 576)
        transform = self.stft_conv(functional.pad(chunks, (0, 64), mode="reflect"))
        real, imaginary = transform.chunk(2, dim=1)  # (chunks, 129, 4) each
        x = (real.square() + imaginary.square()).sqrt()
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = layer(x).relu()  # at last (chunks, 128, 1)
        x, (hidden, cell) = self.lstm(x.squeeze(-1), (state.hidden, state.cell))
        speech = self.final_conv(x.relu().unsqueeze(-1)).sigmoid().flatten()
        return speech, VadState(samples[-CONTEXT:], hidden, cell)


def _weights(path: Path) -> dict[str, Tensor]:
    """The weights for 16 kHz out of the package's model, under the names of this module."""
    with warnings.catch_warnings():  # torch wants another format for new models
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
    """Load the network; it is read-only, so all threads share it.

    Raises:
        InputError: the package silero-vad is not installed, or of a version without these weights.
    """
    spec = find_spec("silero_vad")
    folders = (spec and spec.submodule_search_locations) or []
    path = next((p for f in folders if (p := Path(f, WEIGHTS)).is_file()), None)
    if path is None:
        raise InputError(
            "silero-vad 6 is not installed, which finds speech in audio: pip install "
            "'silero-vad>=6.2,<7' --no-deps; or go without it: --vad fixed"
        )
    network = SpeechNetwork().eval().requires_grad_(False)
    network.load_state_dict(_weights(path))
    return network


class SileroDetector:
    """Speech probabilities of a stream of audio, one for every 32 ms.

    Args:
        rate: samples per second of the audio.
    """

    def __init__(self, rate: int) -> None:
        self.network = speech_network()
        self.state = self.network.initial()
        self.resampler = Resampler(rate, RATE)
        self.rest = np.zeros(0, np.float32)  # samples that do not fill a chunk yet

    def push(self, waveform: np.ndarray) -> np.ndarray:
        """Probabilities of the chunks that are complete with these samples, (N,)."""
        return self._run(self.resampler.push(waveform))

    def close(self) -> np.ndarray:
        """That of the last chunk, which silence fills up; empty where there is none."""
        found = [self._run(self.resampler.close())]
        if len(self.rest):
            found.append(self._run(np.zeros(CHUNK - len(self.rest), np.float32)))
        return np.concatenate(found)

    def _run(self, waveform: np.ndarray) -> np.ndarray:
        samples = np.concatenate([self.rest, waveform])
        whole = len(samples) // CHUNK * CHUNK
        self.rest = samples[whole:]
        if whole == 0:
            return np.zeros(0, np.float32)
        found, self.state = self.network(torch.from_numpy(samples[:whole]), self.state)
        return np.asarray(found)
