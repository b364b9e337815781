"""Download sets of LibriSpeech and of Mini LibriSpeech.

usage: download.py [--mirror URL] FOLDER SET...

The sets end up in FOLDER/LibriSpeech/SET; those that are there are left alone. The mirror has
the folders 12 (LibriSpeech) and 31 (Mini LibriSpeech) of https://www.openslr.org/resources.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "utils"))

from fetch import Checksum, fetch, install
from recipe import run

from asr.errors import InputError

MIRROR = "https://www.openslr.org/resources"
SHA256 = {  # as in torchaudio.datasets.librispeech
    "dev-clean": "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    "dev-other": "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
    "test-clean": "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
    "test-other": "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
    "train-clean-100": "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
    "train-clean-360": "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
    "train-other-500": "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
}
MD5 = {  # as in 31/md5sum.txt of the publisher
    "dev-clean-2": "6d7ab67ac6a1d2c993d050e16d61080d",
    "train-clean-5": "5df7d4e78065366204ca6845bb08f490",
}


def source(name: str) -> tuple[str, Checksum]:
    """Return the path below the mirror and the checksum of a set's archive.

    Raises:
        InputError: the set is unknown.
    """
    if name in SHA256:
        return f"12/{name}.tar.gz", Checksum("sha256", SHA256[name])
    if name in MD5:
        return f"31/{name}.tar.gz", Checksum("md5", MD5[name])
    raise InputError(f"{name}: no such set; expected one of {', '.join(sorted(SHA256 | MD5))}")


def main(argv: list[str]) -> int:
    """``download.py [--mirror URL] FOLDER SET...``."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mirror", default=MIRROR, help="default: %(default)s")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("sets", nargs="+", metavar="SET")
    args = parser.parse_args(argv)
    sources = {name: source(name) for name in args.sets}
    for name, (path, checksum) in sources.items():
        target = args.folder / "LibriSpeech" / name
        if target.is_dir():
            print(f"{target} exists already")
            continue
        archive = args.folder / f"{name}.tar.gz"
        fetch(f"{args.mirror.rstrip('/')}/{path}", archive, checksum)
        install(archive, args.folder)
        if not target.is_dir():
            raise InputError(f"{archive}: has no LibriSpeech/{name}; choose another --mirror")
        archive.unlink()
        print(f"{target} downloaded")
    return 0


if __name__ == "__main__":
    run(main)
