"""Layout of audio files: comparison of the lengths in headers with the data.

libsndfile trusts headers: it does not report a file that ends before the stated end, goes on after
it, or holds several streams one after the other. :func:`survey` finds these cases without decoding,
and returns the parts of the file that libsndfile should read instead.
"""

import io
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Literal

_OGG_PAGE_BYTES = 65307  # the longest page, header included (RFC 3533)
_PAGE = re.compile(rb"OggS\0[\0-\7]")
_LONGEST_PAGE = 1 << 18  # samples; the first page of a stream cut from a longer one ends later
_FLAC_TAIL = 1 << 16  # bytes at the end of a flac file that contain a frame header
_KBPS = (  # of mp3 below 32 kHz, and from 32 kHz on
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
)
_SURE_FRAMES = 3  # consecutive frame headers that identify mp3
_LARGEST_FRAME = 2881  # bytes of an mp3 frame
_MOST_CHUNKS = 10000  # of a file; damage may look like more
MOST_STREAMS = 100_000  # that are read from one file
_FARTHEST = 1 << 43  # bytes: longer than any file; a damaged header may state more
_SCANNED = 1 << 20  # bytes that are read at a time
_TO_THE_END = b"\xff\xff\xff\xff"  # the length in AU files of unknown length
_AIFF_UNKNOWN_SIZE = 0x7F000000  # that sox writes to a pipe

ByteOrder = Literal["little", "big"]
Fragment = bytes | tuple[int, int]
"""Bytes, or a range of bytes of the file."""


@dataclass(frozen=True)
class Part:
    """A stream of audio, as the decoder sees it."""

    fragments: tuple[Fragment, ...]
    hidden: bool = False
    """Whether the length is hidden from the decoder, so that it counts the frames: mp3."""


@dataclass(frozen=True)
class Layout:
    """The streams of a file, and the length that its header states."""

    parts: tuple[Part, ...] = ()
    """Consecutive streams; empty if the decoder can read the file itself."""
    missing: int = 0
    """Bytes that the header promises beyond the end of the file."""
    present: int = 0
    """Bytes of audio in the file, if some are missing."""
    promised: float = 0.0
    """Samples of each channel that a header promises, if it may be wrong; 0: unknown."""
    note: str = ""
    """A warning for the user about the header."""


def size_of(stream: BinaryIO) -> int:
    """Return the length of a file in bytes."""
    return stream.seek(0, os.SEEK_END)


def _bytes_at(stream: BinaryIO, offset: int, count: int) -> bytes:
    if not 0 <= offset < _FARTHEST:
        return b""
    stream.seek(offset)
    return stream.read(count)


def survey(stream: BinaryIO, head: bytes) -> Layout:
    """Find the audio streams in a file that begins with ``head``."""
    size = size_of(stream)
    if is_wav(head):
        return _wav(stream, size)
    if head.startswith(b"OggS"):
        return _ogg(stream, size)
    if head.startswith(b"fLaC"):
        return _flac(stream, size)
    if is_mp3(stream, head):
        return _mp3(stream, size)
    if parts := _joined(stream, size, head):
        return Layout(parts)
    begin, length = _promise(stream, head)
    if begin and begin + length > size:
        return Layout(missing=begin + length - size, present=size - begin)
    if begin + length < size and head.startswith(b".snd") and head[8:12] != _TO_THE_END:
        part = Part(((0, 8), _TO_THE_END, (12, size)))
        return Layout((part,), note=_more(length, size - begin) if length else "")
    if length and begin + length < size and head.startswith(b"NIST_1A"):
        return Layout(note=_more(length, size - begin))
    if length and head.startswith(b"FORM"):
        rest = size - _after_chunks(stream, begin + length, size, "big")
        return Layout(note=_more(length, length + rest, "the rest is not read") if rest else "")
    return Layout()


def _more(promised: int, found: int, what: str = "all of them are read") -> str:
    return f"its header promises {promised} bytes of sound, but {found} are there; {what}"


def _promise(stream: BinaryIO, head: bytes) -> tuple[int, int]:
    """Return where the samples of other formats begin, and how many bytes the header promises."""
    if head.startswith(b"NIST_1A"):
        return _sphere(head)
    if head.startswith(b".snd"):
        begin, length = (int.from_bytes(head[i : i + 4], "big") for i in (4, 8))
        return begin, 0 if head[8:12] == _TO_THE_END else length
    begin = length = 0
    if head.startswith(b"FORM") and head[8:12] in (b"AIFF", b"AIFC"):
        begin, length = _chunk(stream, b"SSND", 12, "big")
        length = 0 if length >= _AIFF_UNKNOWN_SIZE else length
    elif head.startswith(b"RIFX"):
        begin, length = _chunk(stream, b"data", 12, "big")
    elif head.startswith(b"caff"):
        begin, length = _chunk(stream, b"data", 8, "big", width=8)
    elif head.startswith(b"riff\x2e\x91\xcf\x11"):
        begin, length = _chunk(stream, b"data", 40, "little", width=8, name=16)
    return begin, 0 if length >= _FARTHEST else length  # -1: to the end


def _joined(stream: BinaryIO, size: int, head: bytes) -> tuple[Part, ...]:
    """Return the parts of a file that consists of several files; empty if it is only one."""
    if head.startswith(b"FLV\1"):
        offsets = list(_find(stream, head[:4]))
        return _cut([p for p in offsets if _bytes_at(stream, p + 5, 4) == b"\0\0\0\x09"], size)
    ends = {b"FORM": _aiff_end, b"caff": _caf_end}
    end_of = _mp4_end if head[4:8] == b"ftyp" else ends.get(head[:4])
    starts: list[int] = []
    offset = 0
    while end_of and offset < size and (end := end_of(stream, offset)) > offset:
        starts.append(offset)
        offset = end
    return _cut(starts, size)


def _aiff_end(stream: BinaryIO, start: int) -> int:
    """Return the end of the AIFF file at offset ``start``; 0 if no such file begins there."""
    head = _bytes_at(stream, start, 12)
    length = int.from_bytes(head[4:8], "big")
    return start + 8 + length + length % 2 if head[8:11] == b"AIF" else 0


def _caf_end(stream: BinaryIO, start: int) -> int:
    """Return the end of the CAF file at offset ``start``; 0 if no such file begins there."""
    offset = start + 8 if _bytes_at(stream, start, 4) == b"caff" else 0
    for _ in range(_MOST_CHUNKS if offset else 0):
        head = _bytes_at(stream, offset, 12)
        if len(head) < 12 or head.startswith(b"caff"):
            break
        offset += 12 + int.from_bytes(head[4:], "big")
    return offset


def _mp4_end(stream: BinaryIO, start: int) -> int:
    """Return the end of the mp4 file at offset ``start``; 0 if no such file begins there."""
    offset = start if _bytes_at(stream, start + 4, 4) == b"ftyp" else 0
    for _ in range(_MOST_CHUNKS):
        head = _bytes_at(stream, offset, 16)
        length = int.from_bytes(head[8:] if head[:4] == b"\0\0\0\1" else head[:4], "big")
        if length < 8 or (offset > start and head[4:8] == b"ftyp"):
            break
        offset += length
    return offset


def _sphere(head: bytes) -> tuple[int, int]:
    """Return where the samples of a SPHERE file begin, and how many bytes its header promises."""
    fields = (rb"NIST_1A\s+", rb"sample_count -i ", rb"channel_count -i ", rb"sample_n_bytes -i ")
    found = [re.search(field + rb"(\d{1,12})", head) for field in fields]
    header, *sizes = [int(match[1]) if match else 0 for match in found]
    return header, math.prod(sizes)


def _chunk(
    stream: BinaryIO, wanted: bytes, offset: int, order: ByteOrder, *, width: int = 4, name: int = 4
) -> tuple[int, int]:
    """Return where a chunk's data begin, and their length; 0, 0 if the file has no such chunk.

    Names of chunks have ``name`` bytes and lengths ``width``; with names of 16 bytes (W64), lengths
    include the name and the length. The first chunk is at ``offset``.
    """
    for _ in range(_MOST_CHUNKS):
        head = _bytes_at(stream, offset, name + width)
        if len(head) < name + width:
            break
        length = int.from_bytes(head[name:], order)
        begin = offset + name + width
        if name == 16:
            length = max(0, length - name - width)
        if head.startswith(wanted):
            return begin, length
        even = 8 if name == 16 else 2 if width == 4 else 1
        offset = begin + -(-length // even) * even
    return 0, 0


def is_wav(head: bytes) -> bool:
    """Return whether a file begins with the header of a wav file."""
    return head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE"


def _wav(stream: BinaryIO, size: int) -> Layout:
    parts: list[Part] = []
    start, note = 0, ""
    while True:
        begin, length = _wav_data(stream, start)
        if not begin:
            return Layout(tuple(parts), note=note)
        spans, following = _data_spans(stream, begin, length, size)
        if following >= size or not is_wav(_bytes_at(stream, following, 12)):
            break
        parts.append(Part(((start, following),)))
        if len(spans) > 1:
            parts[-1], note = _repaired(stream, start, spans), _more(length, _total(spans))
        start = following
    last = _last_wav(stream, start, spans, following, size)
    parts += last.parts if parts or last.parts[0].fragments != ((0, size),) else ()
    return replace(last, parts=tuple(parts), note=last.note or note)


def _last_wav(
    stream: BinaryIO, start: int, spans: list[tuple[int, int]], following: int, size: int
) -> Layout:
    """Return the layout of the wav file at ``start``, behind which there is no other one.

    Args:
        stream: the file.
        start: offset of the wav file.
        spans: see :func:`_data_spans`.
        following: where its chunks end.
        size: where the file ends.
    """
    begin, end = spans[0]
    length = end - begin
    whole, to_the_end = Part(((start, size),)), _repaired(stream, start, [(begin, size)])
    if _is_open_end(stream, begin, length) or length >= _FARTHEST:
        return Layout((to_the_end,))
    if end > size and not _is_unknown(length):
        return Layout((whole,), missing=end - size, present=size - begin)
    if len(spans) > 1:
        return Layout((_repaired(stream, start, spans),), note=_more(length, _total(spans)))
    if _bytes_at(stream, following, 4) == b"data":  # a chunk that is cut before its samples
        return Layout((Part(((start, following),)),))
    if end <= following <= end + 1 < size:
        return Layout((to_the_end,), note=_more(length, size - begin))
    rest = size - following
    note = _more(length, length + rest, "the rest is not read") if rest > 0 else ""
    return Layout((whole,), note=note)


def _total(spans: Sequence[tuple[int, int]]) -> int:
    return sum(end - begin for begin, end in spans)


def _wav_data(stream: BinaryIO, start: int) -> tuple[int, int]:
    """Return where the samples of a wav file begin, and how many bytes its header promises."""
    begin, length = _chunk(stream, b"data", start + 12, "little")
    if begin and _bytes_at(stream, start, 4) == b"RF64" and length == 0xFFFFFFFF:
        large, _ = _chunk(stream, b"ds64", start + 12, "little")
        length = int.from_bytes(_bytes_at(stream, large + 8, 8), "little") if large else length
    return begin, length


def _is_unknown(length: int) -> bool:
    """Return whether programs that write to a pipe state this length; libsndfile reads all."""
    return 0x7FFFF000 <= length <= 0x80000000 or length >= 0xFFFFF000


def _data_spans(
    stream: BinaryIO, begin: int, length: int, size: int
) -> tuple[list[tuple[int, int]], int]:
    """Return the ranges of all data chunks of a wav file, and where its chunks end."""
    spans = [(begin, begin + length)]
    following = _after_chunks(stream, begin + length, size)
    while len(spans) < MOST_STREAMS and _bytes_at(stream, following, 4) == b"data":
        begin, length = _chunk(stream, b"data", following, "little")
        if not begin:  # its size is cut off
            break
        spans.append((begin, min(begin + length, size)))
        following = _after_chunks(stream, begin + length, size)
    return spans, following


def _is_open_end(stream: BinaryIO, begin: int, length: int) -> bool:
    """Return whether the writer could not go back to fill in the size.

    An empty wav file ends there, or goes on with the name of another chunk.
    """
    following = _bytes_at(stream, begin, 4)
    return length == 0 and not all(32 <= byte < 127 for byte in following)


def _repaired(stream: BinaryIO, start: int, spans: Sequence[tuple[int, int]]) -> Part:
    """Return a wav file whose header states the length of its samples, which are in ``spans``."""
    begin, length = spans[0][0], _total(spans)
    sizes, _ = _chunk(stream, b"ds64", start + 12, "little")
    if sizes and _bytes_at(stream, start, 4) == b"RF64":
        known = length.to_bytes(8, "little")
        return Part(((start, sizes + 8), known, (sizes + 16, begin), *spans))
    if length < 0xFFFFFF00:
        return Part(((start, begin - 4), length.to_bytes(4, "little"), *spans))
    end = begin - start + length
    large = end.to_bytes(8, "little") + length.to_bytes(8, "little") + bytes(12)
    head = b"RF64\xff\xff\xff\xffWAVEds64" + len(large).to_bytes(4, "little") + large
    return Part((head, (start + 12, begin - 4), b"\xff\xff\xff\xff", *spans))


def _after_chunks(stream: BinaryIO, end: int, size: int, order: ByteOrder = "little") -> int:
    """Return where the chunks after the samples end: the file's end, or the start of other data."""
    offset = end
    for _ in range(_MOST_CHUNKS):
        if size - offset < 8:
            return size
        if offset % 2 and _bytes_at(stream, offset, 1) in (b"", b"\0"):  # a chunk is padded
            offset += 1
        head = _bytes_at(stream, offset, 12)
        if head[:3] in (b"TAG", b"ID3", b"APE"):  # tags of music programs
            return size
        if head.startswith(b"data"):  # more audio; libsndfile would read it alone
            return offset
        length = int.from_bytes(head[4:8], order)
        is_name = all(32 <= byte < 127 for byte in head[:4])
        if is_wav(head) or head.startswith(b"FORM") or not is_name or offset + 8 + length > size:
            return offset
        offset += 8 + length
    return offset


def _find(stream: BinaryIO, pattern: bytes) -> Iterator[int]:
    """Yield all offsets of some bytes in a file."""
    offset, kept = 0, b""
    stream.seek(0)
    while block := stream.read(_SCANNED):
        text = kept + block
        found = text.find(pattern)
        while found >= 0:
            yield offset - len(kept) + found
            found = text.find(pattern, found + 1)
        offset += len(block)
        kept = text[-len(pattern) + 1 :]


def _ogg(stream: BinaryIO, size: int) -> Layout:
    missing = _missing_ogg_bytes(stream, size)
    if missing > 0:
        return Layout(missing=missing)
    starts: list[int] = []
    after = 0  # the end of the first pages of multiplexed streams
    for offset in list(_find(stream, b"OggS\0\2")):
        if offset != after or not starts:
            starts.append(offset)
        after = offset + _page_bytes(_bytes_at(stream, offset, 27 + 255))
    return Layout(_cut(starts, size), promised=_vorbis_samples(stream) if len(starts) == 1 else 0)


def _vorbis_samples(stream: BinaryIO) -> int:
    """Return the samples of a Vorbis stream; 0 if unknown, or if it was cut from a longer one."""
    head = _bytes_at(stream, 0, _OGG_PAGE_BYTES)
    ends = [int.from_bytes(head[m.end() : m.end() + 8], "little") for m in _PAGE.finditer(head)]
    first = next((end for end in ends if 0 < end < 1 << 63), 0)
    last = last_granules(stream)
    return last[1] if head[29:35] == b"vorbis" and last and 0 < first < _LONGEST_PAGE else 0


def _cut(starts: list[int], size: int, *, hidden: bool = False) -> tuple[Part, ...]:
    """Return the streams that begin at these offsets; empty if the file is one stream."""
    if len(starts) < 2:
        return ()
    starts = starts[: MOST_STREAMS + 1]
    ends = [*starts[1:], size]
    return tuple(Part((span,), hidden) for span in zip(starts, ends, strict=True))


def _page_bytes(page: bytes) -> int:
    """Return the length of an ogg page with this header (RFC 3533)."""
    segments = page[26]
    return 27 + segments + sum(page[27 : 27 + segments])


def last_granules(stream: BinaryIO) -> list[int]:
    """Return the samples at which the last two pages of an ogg file end; empty for one page."""
    size = size_of(stream)
    tail = _bytes_at(stream, max(0, size - 2 * _OGG_PAGE_BYTES), 2 * _OGG_PAGE_BYTES)
    last = tail.rfind(b"OggS\0")
    offsets = tail.rfind(b"OggS\0", 0, max(0, last)), last
    ends = [int.from_bytes(tail[p + 6 : p + 14], "little", signed=True) for p in offsets if p >= 0]
    return ends if len(ends) == 2 and 0 <= ends[0] <= ends[1] else []


def _missing_ogg_bytes(stream: BinaryIO, size: int) -> int:
    """Return how many bytes of the last page of an ogg file are missing."""
    tail = _bytes_at(stream, max(0, size - _OGG_PAGE_BYTES), _OGG_PAGE_BYTES)
    page = tail[max(0, tail.rfind(b"OggS\0")) :]
    if len(page) < 27:  # the header up to the number of segments
        return 27 - len(page)
    return _page_bytes(page) - len(page)


def _flac(stream: BinaryIO, size: int) -> Layout:
    starts = [
        offset
        for offset in list(_find(stream, b"fLaC"))
        if _bytes_at(stream, offset + 4, 4) in (b"\0\0\0\x22", b"\x80\0\0\x22")
    ]
    end = _before_tag(stream, size)
    if end < size and len(starts) < 2:
        return Layout((Part(((0, end),)),))
    if len(starts) < 2:
        head = _bytes_at(stream, 0, 26)
        promised = int.from_bytes(head[18:], "big") & 0xFFFFFFFFF
        tail = _bytes_at(stream, max(0, end - _FLAC_TAIL), _FLAC_TAIL)
        if 0 < promised <= _last_flac_frame(tail, int.from_bytes(head[8:10], "big")):
            note = f"its header promises {promised} samples, but more are there; all are read"
            return Layout((without_flac_length(head, end),), note=note)
    return Layout(_cut(starts, end))


def _last_flac_frame(tail: bytes, block: int) -> int:
    """Return the first sample of the last frame of a flac file; 0 if its tail has no frame header.

    A fixed block size is that of ``block`` samples (RFC 9639, 9.1).
    """
    offset = len(tail)
    while (offset := tail.rfind(b"\xff", 0, offset)) >= 0:
        frame = tail[offset : offset + 16]
        if len(frame) < 6 or frame[1] & 0xFE != 0xF8:
            continue
        digits = max(1, 8 - (frame[4] ^ 0xFF).bit_length())  # bytes of the number, coded as UTF-8
        more = {6: 1, 7: 2}.get(frame[2] >> 4, 0) + {12: 1, 13: 2, 14: 2}.get(frame[2] & 15, 0)
        if digits < 8 and _crc8(frame[: 5 + digits + more]) == 0:
            number = frame[4] & 0x7F if digits == 1 else frame[4] & (0x7F >> digits)
            for byte in frame[5 : 4 + digits]:
                number = number << 6 | byte & 0x3F
            return number if frame[1] & 1 else number * block
    return 0


def _crc8(data: bytes) -> int:
    """Return the checksum of a flac header; 0 if the header ends with its right checksum."""
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value << 1 ^ (0x107 if value & 0x80 else 0)
    return value


def _before_tag(stream: BinaryIO, size: int) -> int:
    """Return where a file ends, without an ID3v1 tag."""
    tagged = size > 128 and _bytes_at(stream, size - 128, 3) == b"TAG"
    return size - 128 if tagged else size


def without_flac_length(head: bytes, end: int) -> Part:
    """Return a flac file up to ``end`` whose header states that its length is unknown."""
    return Part((head[:21], bytes([head[21] & 0xF0, 0, 0, 0, 0]), (26, end)))


def is_mp3(stream: BinaryIO, head: bytes) -> bool:
    """Return whether a file begins with an mp3 frame, after tags if there are any."""
    if head.startswith(b"ID3"):
        head = _bytes_at(stream, after_tags(stream), 4)
    return len(head) > 2 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 6 != 0


def cut_out_mp3(stream: BinaryIO, head: bytes) -> Part | None:
    """Return the mp3 that a recorder cut from a stream, from its first whole frame on."""
    first = _first_frame(head)
    return Part(((first, _before_tag(stream, size_of(stream))),), hidden=True) if first else None


def _first_frame(head: bytes) -> int:
    """Return where mp3 frames begin after other bytes; 0 if no frame is found."""
    for start in range(1, len(head) - 4):
        offset, frames = start, 0
        while frames < _SURE_FRAMES and (length := _frame_bytes(head[offset : offset + 4])):
            offset, frames = offset + length, frames + 1
        if frames == _SURE_FRAMES:
            return start
    return 0


def _frame_bytes(head: bytes) -> int:
    """Return the length of the mp3 frame (layer 3) with this header; 0 if it is not one."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return 0
    version, kbps, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or kbps in (0, 15) or rate == 3:
        return 0
    hertz = (44100, 48000, 32000)[rate] // (4, 1, 2, 1)[version]
    padding = head[2] >> 1 & 1
    return (144 if version == 3 else 72) * _KBPS[version == 3][kbps] * 1000 // hertz + padding


def after_tags(stream: BinaryIO, offset: int = 0) -> int:
    """Return where the ID3v2 tags at an offset of a file end."""
    while len(head := _bytes_at(stream, offset, 10)) == 10 and head.startswith(b"ID3"):
        length = sum((byte & 0x7F) << 7 * (3 - i) for i, byte in enumerate(head[6:10]))
        offset += 10 + length + (10 if head[5] & 0x10 else 0)
    return offset


def _mp3(stream: BinaryIO, size: int) -> Layout:
    """Trust the decoder only with a Xing header that states the right length."""
    begin, end = after_tags(stream), _before_tag(stream, size)
    head = _bytes_at(stream, begin, 64)
    at = max(head.find(b"Xing"), head.find(b"Info"))
    fragments: tuple[Fragment, ...] = ((begin, end),)
    promised = 0
    if at >= 0:
        fragments = ((begin, begin + at), b"\0\0\0\0", (begin + at + 4, end))
        numbers = (int.from_bytes(head[i : i + 4], "big") for i in (at + 4, at + 8, at + 12))
        flags, frames, length = numbers
        has_sizes = flags & 3 == 3
        if has_sizes and 0 <= end - begin - length < _LARGEST_FRAME:
            return Layout()
        if has_sizes and length > end - begin:
            promised = frames * (1152 if head[1] & 8 else 576)  # samples of a frame
    starts, note = _mp3_streams(stream, begin, end)
    if len(starts) > 1:
        return Layout(_cut(starts, end, hidden=True), note=note)
    return Layout((Part(fragments, hidden=True),), promised=promised, note=note)


def _mp3_streams(stream: BinaryIO, begin: int, end: int) -> tuple[list[int], str]:
    """Return where each stream of mp3 begins, and a note about data at the end that is not mp3.

    mpg123 does not go on with a stream of another version, rate or number of channels.
    """
    starts: list[int] = []
    offset, kind = begin, None
    while offset < end:
        head = _bytes_at(stream, offset, 4)
        if length := _frame_bytes(head):
            if kind != (kind := (head[1] & 0x18, head[2] & 0x0C, head[3] >> 6 == 3)):
                starts.append(offset)
            offset += length
            continue
        found = after_tags(stream, offset) - offset or _first_frame(_bytes_at(stream, offset, 4096))
        if not found:
            break
        offset += found
    rest = end - offset
    known = not starts or _bytes_at(stream, offset, 8) in (b"APETAGEX", b"LYRICSBE")
    note = f"its last {rest} bytes are not mp3 and are not read" if rest > _LARGEST_FRAME else ""
    return starts, "" if known else note


class View(io.RawIOBase):
    """Fragments of a file, presented as one file without copying them."""

    def __init__(self, stream: BinaryIO, part: Part) -> None:
        self.stream, self.part, self.position = stream, part, 0
        self.spans: list[tuple[int, int, Fragment]] = []  # begin and end in this view
        end = 0
        for fragment in part.fragments:
            begin = end
            end += len(fragment) if isinstance(fragment, bytes) else fragment[1] - fragment[0]
            self.spans.append((begin, end, fragment))
        self.size = end

    def readable(self) -> bool:
        """Return True."""
        return True

    seekable = readable

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a byte and return its position."""
        if whence == os.SEEK_END and self.part.hidden:
            return self.position  # mpg123 then counts the frames instead of estimating them
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.size}[whence]
        self.position = max(0, start + offset)
        return self.position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer and return the number of bytes; fewer at the end."""
        done = 0
        for begin, end, fragment in self.spans:
            if done < len(buffer) and begin <= self.position < end:
                count = min(len(buffer) - done, end - self.position)
                start = self.position - begin
                if isinstance(fragment, bytes):
                    data = fragment[start : start + count]
                else:
                    data = _bytes_at(self.stream, fragment[0] + start, count)
                buffer[done : done + len(data)] = data
                self.position += len(data)
                done += len(data)
        return done

    def close(self) -> None:
        """Close the file."""
        self.stream.close()
        super().close()
