"""Make Kaldi data directories of speechocean762, with a dev set of held-out speakers.

usage: prepare.py SPEECHOCEAN762 DATA

The corpus comes with a Kaldi-style directory for each half: tables separated by tabs, digits as
speakers, ids that do not begin with the speaker, paths relative to the corpus. DATA/train is
the training half with sorted ids ``<speaker>-<utterance>`` and absolute paths; DATA/train_dev
has the speakers DEV_SPEAKERS of it, DATA/train_nodev the others. The test half becomes
DATA/test if it is there.

Transcripts are written as LibriSpeech's are: upper case, letters, digits, apostrophes; other
characters separate words. (Those published are in this form.)
"""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "utils"))

from recipe import refuse, run, set_aside

from asr.audio.clip import command_of
from asr.corpus.edit import subset
from asr.corpus.importing import import_kaldi
from asr.corpus.tables import Tables, keyed_by, read_table, read_tables, restrict, speakers_of
from asr.errors import EXIT_USAGE, InputError
from asr.text.normalize import librispeech

# A tenth of the first hundred training speakers, in the proportions of the corpus: five children
# (three boys) and five adults (three women). Within these four groups they are spread evenly
# over the speakers in the order of their ages, from 6 to 29.
DEV_SPEAKERS = ["0036", "0075", "1012", "1042", "1092", "2022", "2236", "2402", "3837", "5408"]

NEEDED = ("wav.scp", "text", "utt2spk")
PUBLISHED = (2500, 125)  # utterances and speakers, of either half
ADULT_AGE = 18


def find_root(folder: Path) -> Path:
    """Return the folder with ``train`` and ``WAVE``: the given one, or ``speechocean762`` in it."""
    for root in (folder, folder / "speechocean762"):
        if (root / "train").is_dir():
            return root
    raise InputError(f"{folder}: no train/ in it; expected the unpacked corpus speechocean762")


def read_half(folder: Path) -> Tables:
    """Return the tables of ``train`` or ``test`` as published.

    Raises:
        InputError: files are missing, or contradict each other.
    """
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    refuse([f"{name}: no such file; unpack the corpus again" for name in missing], folder)
    tables = read_tables(folder)
    refuse(list(disagreements(folder, tables)), folder)
    return tables


def disagreements(folder: Path, tables: Tables) -> Iterator[str]:
    """Yield a sentence for each entry that contradicts utt2spk or has an invalid value."""
    for name, speaker in tables["utt2spk"].items():
        if len(speaker.split()) != 1:
            yield f"utt2spk: {name}: {speaker!r}, expected one speaker"
    speakers = speakers_of(tables["utt2spk"])
    for name, table in tables.items():
        wanted = speakers if keyed_by(name) == "speaker" else tables["utt2spk"]
        yield from _differ(name, set(table), set(wanted))
    if (folder / "spk2utt").is_file():
        listed = read_table(folder / "spk2utt")
        yield from _differ("spk2utt", _pairs(listed), _pairs(speakers))
    for name, path in tables["wav.scp"].items():
        if command_of(path) is not None:
            yield f"wav.scp: {name}: a command, expected the path of a file"
    for speaker, age in tables.get("spk2age", {}).items():
        if not age.isdecimal():
            yield f"spk2age: {speaker}: {age!r}, expected years"


def _differ(name: str, found: set[str], wanted: set[str]) -> Iterator[str]:
    """Yield a sentence for keys that only one of a table and utt2spk has."""
    for more, fewer, place in ((wanted, found, name), (found, wanted, "utt2spk")):
        missing = sorted(more - fewer)
        if missing:
            yield f"{place}: no line for {missing[0]} ({len(missing)} missing); unpack again"


def _pairs(spk2utt: dict[str, str]) -> set[str]:
    """Return pairs of utterance and speaker, as in the lines of utt2spk."""
    return {f"{name} {spk}" for spk, names in spk2utt.items() for name in names.split()}


def import_half(root: Path, half: str, data: Path) -> Tables:
    """Write DATA/<half>, and return its tables.

    Raises:
        InputError: something in the corpus is missing or malformed.
    """
    published = read_half(root / half)
    import_kaldi(root / half, data / half, root, librispeech)
    tables = read_tables(data / half)
    before, after = Counter(published["text"].values()), Counter(tables["text"].values())
    print(f"{data / half}: {describe(tables)}; {(before - after).total()} transcripts normalised")
    return tables


def describe(tables: Tables) -> str:
    """Return the numbers of utterances, words, and speakers by age and gender."""
    words = sum(len(text.split()) for text in tables["text"].values())
    speakers = sorted(set(tables["utt2spk"].values()))
    ages, genders = tables.get("spk2age", {}), tables.get("spk2gender", {})
    groups = Counter(
        f"{_age_group(ages.get(s))} {genders.get(s, 'of unknown gender')}" for s in speakers
    )
    listed = ", ".join(f"{number} {group}" for group, number in sorted(groups.items()))
    utterances = len(tables["utt2spk"])
    return f"{utterances} utterances, {words} words, {len(speakers)} speakers ({listed})"


def _age_group(age: str | None) -> str:
    if age is None:
        return "of unknown age"
    return "adult" if int(age) >= ADULT_AGE else "child"


def dev_speakers(speakers: set[str]) -> list[str]:
    """Return those of DEV_SPEAKERS that the corpus has, and print which are missing.

    Raises:
        InputError: the corpus has none of them, or no other speakers.
    """
    there = [speaker for speaker in DEV_SPEAKERS if speaker in speakers]
    if not there or len(there) == len(speakers):
        raise InputError(
            f"train: its speakers are {', '.join(sorted(speakers)[:10])} ...; expected "
            f"{', '.join(DEV_SPEAKERS)} for the dev set, and others to train on"
        )
    if len(there) < len(DEV_SPEAKERS):
        absent = ", ".join(sorted(set(DEV_SPEAKERS) - speakers))
        print(f"not in the corpus: dev speakers {absent}", file=sys.stderr)
    return there


def hold_out(data: Path, tables: Tables) -> None:
    """Split DATA/train by speaker into train_nodev and train_dev, and describe both."""
    held_out = dev_speakers(set(tables["utt2spk"].values()))
    dev = {name for name, speaker in tables["utt2spk"].items() if speaker in held_out}
    for name, keep in (("train_nodev", tables["utt2spk"].keys() - dev), ("train_dev", dev)):
        subset(data / "train", data / name, keep)
        print(f"{data / name}: {describe(restrict(tables, keep))}")
    print(
        f"dev speakers: {', '.join(held_out)}; {unseen(tables, dev):.1f} % of their words are new"
    )


def unseen(tables: Tables, dev: set[str]) -> float:
    """Return the percentage of the running words of ``dev`` that no other utterance has."""
    words = {name: text.split() for name, text in tables["text"].items()}
    known = {word for name in words.keys() - dev for word in words[name]}
    running = [word for name in dev for word in words[name]]
    return 100 * sum(word not in known for word in running) / max(1, len(running))


def compare_with_published(half: str, tables: Tables) -> None:
    """Warn if the half is incomplete."""
    found = len(tables["utt2spk"]), len(set(tables["utt2spk"].values()))
    if found != PUBLISHED:
        print(
            f"{half}: {found[0]} utterances of {found[1]} speakers; published: {PUBLISHED[0]} "
            f"of {PUBLISHED[1]}; results on this part are not comparable with published ones",
            file=sys.stderr,
        )


def main(argv: list[str]) -> int:
    """``prepare.py SPEECHOCEAN762 DATA``."""
    if len(argv) != 2:
        print(__doc__, file=sys.stderr)
        return EXIT_USAGE
    root, data = find_root(Path(argv[0])), Path(argv[1])
    train = import_half(root, "train", data)
    compare_with_published("train", train)
    hold_out(data, train)
    if not (root / "test").is_dir():
        print(f"test: not prepared, because {root / 'test'} does not exist")
        set_aside(data / "test")
        return 0
    test = import_half(root, "test", data)
    compare_with_published("test", test)
    shared = set(train["utt2spk"].values()) & set(test["utt2spk"].values())
    if shared:
        print(
            f"warning: these speakers are in both halves: {', '.join(sorted(shared))}",
            file=sys.stderr,
        )
    return 0


if __name__ == "__main__":
    run(main)
