"""Make Kaldi data directories of CMU AN4 with the published split.

usage: prepare.py AN4 DATA

AN4 has ``etc/an4_{train,test}.{fileids,transcription}`` and ``wav/``, with NIST SPHERE files
or headerless samples in either byte order. Ids are rewritten speaker first (``an251-fash-b``
becomes ``fash-an251-b``) and sorted; the first 100 of the training half are DATA/train_dev, the
others DATA/train_nodev, as in ESPnet's egs/an4. The test half becomes DATA/test if it is there.
Headerless samples are stored as DATA/wav/<speaker>/<id>.wav.
"""

import io
import re
import sys
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "utils"))

from recipe import refuse, run, set_aside

from asr.corpus.tables import Tables, write_tables
from asr.errors import EXIT_USAGE, InputError
from asr.files import write_atomically
from asr.text.transcripts import read_lines

SAMPLE_RATE = 16000
DEV_SIZE = 100
PUBLISHED = {"train_nodev": (848, 4851), "train_dev": (100, 591), "test": (130, 773)}
SUFFIXES = (".sph", ".raw", ".wav")
PROBED = 30


@dataclass(frozen=True)
class Recording:
    """A line of ``etc/an4_*.fileids``."""

    id: str
    """Speaker first."""
    speaker: str
    path: Path
    words: str


def speaker_first(name: str) -> tuple[str, str]:
    """New id and speaker of ``<prompt>-<speaker>-<channel>``.

    Raises:
        ValueError: the name has another form.
    """
    prompt, speaker, channel = name.split("-")
    return f"{speaker}-{prompt}-{channel}", speaker


def read_transcripts(path: Path) -> dict[str, str]:
    """Return the words of each published id; a line is ``[<s>] WORDS [</s>] (id)``."""
    transcripts = {}
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        match = re.fullmatch(r"\s*(?:<s>)?(.*?)(?:</s>)?\s*\(([^()\s]+)\)\s*", line)
        if match is None:
            raise InputError(f'{path}:{number}: {line!r}, expected "<s> WORDS </s> (id)"')
        transcripts[match[2]] = " ".join(match[1].split())
    return transcripts


def find_audio(stem: Path) -> Path | None:
    """Return the audio file of an entry in fileids, which has no suffix."""
    candidates = (stem.with_name(stem.name + suffix) for suffix in SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def read_half(root: Path, half: str) -> list[Recording]:
    """Return the recordings of ``train`` or ``test``, sorted by id.

    Raises:
        InputError: audio or transcripts are missing, or lines are malformed.
    """
    listing = root / "etc" / f"an4_{half}.fileids"
    transcripts = read_transcripts(root / "etc" / f"an4_{half}.transcription")
    recordings, problems = [], []
    for number, line in enumerate(map(str.strip, read_lines(listing)), 1):
        if not line:
            continue
        name = Path(line).name
        path = find_audio(root / "wav" / line)
        if name.count("-") != 2:
            problems.append(f"{listing}:{number}: {name!r}, expected <prompt>-<speaker>-<channel>")
        elif path is None:
            problems.append(
                f"{listing}:{number}: no audio file {root / 'wav' / line}.sph|.raw|.wav"
            )
        elif not transcripts.get(name):
            problems.append(f"{listing}:{number}: no words for {name} in an4_{half}.transcription")
        else:
            recordings.append(Recording(*speaker_first(name), path, transcripts[name]))
    refuse(problems, root)
    return sorted(recordings, key=lambda r: r.id)


def roughness(samples: np.ndarray) -> float:
    """Return the energy of the first differences divided by that of the samples (N,).

    About 2 for white noise, far below 1 for speech. In the wrong byte order the low, noisy
    byte becomes the high one, and speech turns into noise.
    """
    samples = samples.astype(np.float64)
    samples -= samples.mean()
    return float(np.square(np.diff(samples)).sum() / max(np.square(samples).sum(), 1e-9))


def byte_order(path: Path) -> str:
    """Return ``>`` or ``<``, the byte order in which a headerless file is smoother."""
    content = path.read_bytes()
    content = content[: len(content) // 2 * 2]
    return min("<>", key=lambda order: roughness(np.frombuffer(content, f"{order}i2")))


def common_byte_order(paths: list[Path]) -> str:
    """Return the byte order of a distribution, on which some of its files have to agree.

    Raises:
        InputError: they do not agree.
    """
    probed = paths[:: max(1, len(paths) // PROBED)]
    votes = [byte_order(path) for path in probed]
    winner = max("<>", key=votes.count)
    others = [str(p) for p, vote in zip(probed, votes, strict=True) if vote != winner]
    name = {"<": "little-endian", ">": "big-endian"}[winner]
    if len(others) > len(probed) // 10:
        raise InputError(
            f"byte order: {len(probed) - len(others)} of {len(probed)} files look {name}, but not "
            f"{', '.join(others[:3])}; expected 16-bit samples in one byte order, unpack AN4 again"
        )
    print(f"raw samples, {name} ({len(probed) - len(others)} of {len(probed)} files probed)")
    return winner


def convert(recording: Recording, order: str, folder: Path) -> Path:
    """Store headerless samples as a wav file, and return its path."""
    content = recording.path.read_bytes()
    if not content or len(content) % 2:
        raise InputError(
            f"{recording.path}: {len(content)} bytes, expected 16-bit samples; unpack AN4 again"
        )
    samples = np.frombuffer(content, f"{order}i2").astype("<i2")
    path = folder / recording.speaker / f"{recording.id}.wav"

    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as out:
        out.setparams((1, 2, SAMPLE_RATE, len(samples), "NONE", ""))
        out.writeframes(samples.tobytes())
    if (
        not path.is_file() or path.read_bytes() != buffer.getvalue()
    ):  # a new time would look like a change
        write_atomically(path, lambda file: file.write(buffer.getvalue()))
    return path.resolve()


def readable_audio(recordings: list[Recording], folder: Path) -> dict[str, str]:
    """Return wav.scp: files with a header stay in place, headerless ones are converted."""
    raw = [r.path for r in recordings if r.path.suffix == ".raw"]
    if not raw:
        kinds = ", ".join(sorted({r.path.suffix[1:] for r in recordings}))
        print(f"files with a header ({kinds.replace('sph', 'NIST SPHERE')}), read where they are")
    order = common_byte_order(raw) if raw else ""
    return {
        r.id: str(convert(r, order, folder) if r.path.suffix == ".raw" else r.path.resolve())
        for r in recordings
    }


def tables_of(recordings: list[Recording], wavs: dict[str, str]) -> Tables:
    """Return the tables of one set; the first letter of a speaker is the gender."""
    return {
        "text": {r.id: r.words for r in recordings},
        "wav.scp": {r.id: wavs[r.id] for r in recordings},
        "utt2spk": {r.id: r.speaker for r in recordings},
        "spk2gender": {r.speaker: r.speaker[0] for r in recordings if r.speaker[0] in "fm"},
    }


def write_set(data: Path, name: str, recordings: list[Recording], wavs: dict[str, str]) -> None:
    """Write one set and compare its size with the published one."""
    write_tables(data / name, tables_of(recordings, wavs))
    counts = len(recordings), sum(len(r.words.split()) for r in recordings)
    print(f"{data / name}: {counts[0]} utterances, {counts[1]} words")
    if counts != PUBLISHED[name]:
        utterances, words = PUBLISHED[name]
        print(
            f"warning: the published set has {utterances} utterances with {words} words; results "
            "cannot be compared with published ones",
            file=sys.stderr,
        )


def prepare_train(root: Path, data: Path) -> None:
    """Write train_nodev and train_dev."""
    recordings = read_half(root, "train")
    if len(recordings) <= DEV_SIZE:
        raise InputError(
            f"{root}: {len(recordings)} training recordings, expected 948 (more than the "
            f"{DEV_SIZE} of train_dev); unpack AN4 again"
        )
    wavs = readable_audio(recordings, data / "wav")
    write_set(data, "train_nodev", recordings[DEV_SIZE:], wavs)
    write_set(data, "train_dev", recordings[:DEV_SIZE], wavs)


def prepare_test(root: Path, data: Path) -> None:
    """Write test if the corpus has that half, otherwise say what is missing."""
    needed = [root / "etc/an4_test.fileids", root / "etc/an4_test.transcription"]
    needed.append(root / "wav/an4test_clstk")
    missing = [str(path) for path in needed if not path.exists()]
    if missing:
        print(f"test: not prepared, missing: {', '.join(missing)}")
        set_aside(data / "test")
        return
    recordings = read_half(root, "test")
    write_set(data, "test", recordings, readable_audio(recordings, data / "wav"))


def find_root(folder: Path) -> Path:
    """Return the folder with ``etc`` and ``wav``: the given one, or ``an4`` in it."""
    for root in (folder, folder / "an4"):
        if (root / "etc" / "an4_train.fileids").is_file():
            return root
    raise InputError(f"{folder}: no etc/an4_train.fileids; expected the unpacked AN4 corpus")


def main(argv: list[str]) -> int:
    """``prepare.py AN4 DATA``."""
    if len(argv) != 2:
        print(__doc__, file=sys.stderr)
        return EXIT_USAGE
    root, data = find_root(Path(argv[0])), Path(argv[1])
    prepare_train(root, data)
    prepare_test(root, data)
    return 0


if __name__ == "__main__":
    run(main)
