"""``asr listen``: transcribe the microphone, a segment after each pause."""

import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from asr.commands.transcribe import PAGE, add_model_options, open_recognizer
from asr.config import DecodeConfig, SegmentationConfig
from asr.config.args import add_settings, from_args, make_parser, settings_of
from asr.config.help import Page
from asr.errors import EXIT_OK, InputError, first_line
from asr.store.find import search_settings
from asr.terminal import note, reader_gone

INSTALL = "pip install 'asr-las[mic]'; on Linux also the system's PortAudio (libportaudio2)"
BLOCK_S = 0.1  # of audio that the microphone gives at a time
WAITING_S = 60.0  # of audio that may wait while a segment is recognised
POLL_S = 0.2  # between two looks at whether to stop

Source = Callable[[int, threading.Event], tuple[int, Iterable[np.ndarray]]]
"""Takes the rate that would be best and an event that ends it; gives the rate that it has and
blocks of samples, (N,) or (N, channels)."""


def main(argv: list[str], source: Source | None = None) -> int:
    """Parse the command line and listen until Ctrl-C, or until the source ends.

    Args:
        argv: the command line.
        source: where the audio comes from; by default the microphone.
    """
    parser = make_parser(
        "asr listen",
        "Transcribe the microphone. A line is printed after each pause; the "
        "model reads each stretch of speech in both directions, so that there are no single words "
        "before. Ctrl-C ends it, after what is still to be written.",
        Page(
            {
                "input and output": "input times",
                **{title: PAGE.groups[title] for title in ("model", "search", "audio")},
            }
        ),
    )
    parser.add_argument("--input", help="number or name of the microphone; by default the system's")
    parser.add_argument("--times", action="store_true", help="begin each line with its time")
    add_model_options(parser)
    add_settings(parser, DecodeConfig, SegmentationConfig)
    config, args = from_args(DecodeConfig, parser, argv, lambda o: search_settings(o.model))
    segmentation = settings_of(SegmentationConfig, args, parser.prog)
    if segmentation.vad == "none":
        raise InputError("--vad none: has no pauses to write at, expected silero or fixed")
    source = source or microphone(args.input)
    opened = open_recognizer(args, config, segmentation)
    with opened as recognizer, _ended_by_ctrl_c() as stop:
        note("listening; Ctrl-C ends")
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
    """The microphone as a source.

    Raises:
        InputError: the package for it is missing, or there is no such device.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: the package without the library
        raise InputError(f"no access to microphones ({first_line(error)}): {INSTALL}") from error
    chosen = int(device) if device and device.isdigit() else device
    try:
        sounddevice.check_input_settings(device=chosen, channels=1)
    except (sounddevice.PortAudioError, ValueError) as error:
        raise InputError(
            f"microphone {device or '(the default)'}: not usable ({first_line(error)}); "
            "`python -m sounddevice` lists what there is, --input chooses"
        ) from error

    def source(rate: int, stop: threading.Event) -> tuple[int, Iterable[np.ndarray]]:
        rate = _possible_rate(sounddevice, chosen, rate)
        return rate, _recorded(sounddevice, chosen, rate, stop)

    return source


def _possible_rate(sounddevice: Any, device: int | str | None, rate: int) -> int:
    """The rate, or the device's own where it has no other."""
    try:
        sounddevice.check_input_settings(device=device, channels=1, samplerate=rate)
    except sounddevice.PortAudioError:
        return round(sounddevice.query_devices(device, "input")["default_samplerate"])
    return rate


def _recorded(
    sounddevice: Any, device: int | str | None, rate: int, stop: threading.Event
) -> Iterator[np.ndarray]:
    """Blocks of the microphone, which another thread records, until the event is set."""
    blocks: queue.Queue[np.ndarray] = queue.Queue(round(WAITING_S / BLOCK_S))

    def keep(block: np.ndarray, frames: int, time: Any, status: Any) -> None:
        if status:  # overflow: the driver has thrown samples away
            print(f"warning: the microphone says {status}, audio may be lost", file=sys.stderr)
        try:
            blocks.put_nowait(block[:, 0].copy())
        except queue.Full:
            print("warning: too slow for this computer, audio is lost", file=sys.stderr)

    size = round(BLOCK_S * rate)
    try:
        with sounddevice.InputStream(rate, size, device, 1, "float32", callback=keep):
            while not stop.is_set():
                try:
                    yield blocks.get(timeout=POLL_S)
                except queue.Empty:
                    continue
    except sounddevice.PortAudioError as error:
        raise InputError(f"the microphone stopped: {first_line(error)}") from error
    while not blocks.empty():
        yield blocks.get()


@contextmanager
def _ended_by_ctrl_c() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the second one interrupts as usual."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.getsignal(signal.SIGINT)

    def end(number: int, frame: Any) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, end)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
