"""Transcribe the microphone.

A line is printed after each pause. Single words cannot be printed earlier, because the model reads
each segment in both directions. Ctrl-C prints the last segment and ends. Needs the extra `mic`
(pip install -e '.[mic]'), and PortAudio on Linux.

Examples:
    asr listen --model exp/mine
    asr listen --times
"""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from asr.commands.train import stopped_by_signals
from asr.commands.transcribe import GROUPS, open_recognizer, parse_recognition
from asr.config.args import make_parser
from asr.errors import EXIT_OK, InputError, first_line
from asr.terminal import note, reader_gone, warn

INSTALL = "pip install -e '.[mic]' in the project's folder; on Linux also PortAudio (libportaudio2)"
BLOCK_S = 0.1  # length of a block of samples
WAITING_S = 60.0  # audio that may wait while a segment is recognised
POLL_S = 0.2  # time between two checks of the stop event

Source = Callable[[int, threading.Event], tuple[int, Iterable[np.ndarray]]]
"""Takes the preferred sample rate and an event that ends the source; returns the actual rate and
blocks of samples, (N,) or (N, channels)."""


def main(argv: list[str], source: Source | None = None) -> int:
    """Run ``asr listen`` until Ctrl-C, or until the source ends; return the exit code.

    Args:
        argv: the command line.
        source: source of the audio; None is the microphone.
    """
    shared = {title: GROUPS[title] for title in ("model", "search", "audio")}
    parser = make_parser("asr listen", __doc__, {"input and output": "input times", **shared})
    parser.add_argument("--input", help="microphone: number or name (default: the system's)")
    parser.add_argument("--times", action="store_true", help="begin each line with its times")
    args, config, segmentation = parse_recognition(parser, argv)
    if segmentation.vad == "none":
        raise InputError("--vad none: finds no pauses to print at; expected silero or fixed")
    source = source or microphone(args.input)
    stop = threading.Event()
    with open_recognizer(args, config, segmentation) as recognizer, stopped_by_signals(stop.set):
        note("listening; stop with Ctrl-C")
        rate, blocks = source(recognizer.rate, stop)
        for segment in recognizer.stream(blocks, rate):
            flags = f"  [{', '.join(segment.flags)}]" if segment.flags else ""
            time = f"{segment.start_s:8.1f} - {segment.end_s:.1f}  " if args.times else ""
            if segment.text:
                print(f"{time}{segment.text}{flags}", flush=True)
            if reader_gone():
                break
    return EXIT_OK


def microphone(device: str | None) -> Source:
    """Return a microphone as a source.

    Raises:
        InputError: the package sounddevice is missing, or there is no such device.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: the package without the library
        raise InputError(f"cannot use microphones ({first_line(error)}): {INSTALL}") from error
    chosen = int(device) if device and device.isdigit() else device
    try:
        sounddevice.check_input_settings(device=chosen, channels=1)
    except (sounddevice.PortAudioError, ValueError) as error:
        raise InputError(
            f"microphone {device or '(the default)'}: not usable ({first_line(error)}); choose "
            "one with --input, `python -m sounddevice` lists them"
        ) from error

    def source(rate: int, stop: threading.Event) -> tuple[int, Iterable[np.ndarray]]:
        try:
            sounddevice.check_input_settings(device=chosen, channels=1, samplerate=rate)
        except sounddevice.PortAudioError:  # the device does not support this rate
            rate = round(sounddevice.query_devices(chosen, "input")["default_samplerate"])
        return rate, _recorded(sounddevice, chosen, rate, stop)

    return source


def _recorded(
    sounddevice: Any, device: int | str | None, rate: int, stop: threading.Event
) -> Iterator[np.ndarray]:
    """Yield blocks of the microphone, which another thread records, until the event is set."""
    blocks: queue.Queue[np.ndarray] = queue.Queue(round(WAITING_S / BLOCK_S))

    def keep(block: np.ndarray, frames: int, time: Any, status: Any) -> None:
        if status:  # overflow: the driver has dropped samples
            warn(f"microphone: {status}, audio may be lost")
        try:
            blocks.put_nowait(block[:, 0].copy())
        except queue.Full:
            warn("recognition is too slow, audio is lost")

    size = round(BLOCK_S * rate)
    try:
        with sounddevice.InputStream(rate, size, device, 1, "float32", callback=keep):
            while not stop.is_set():
                with suppress(queue.Empty):
                    yield blocks.get(timeout=POLL_S)
    except sounddevice.PortAudioError as error:
        raise InputError(f"the microphone stopped: {first_line(error)}") from error
    while not blocks.empty():
        yield blocks.get()
