"""A file is decoded to find its length if its header does not state it, or a wrong one."""

import io
import struct

import numpy as np
import pytest
import soundfile

from asr.audio import decode, media
from asr.audio.clip import Clip, blocks, info, read
from asr.errors import AudioError

RATE = 16000
SOUND = np.random.default_rng(0).uniform(-0.5, 0.5, 8 * RATE)


def encode(samples, format="WAV", subtype="PCM_16", rate=RATE, **more):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype, **more)
    return file.getvalue()


def mp3(samples, rate=RATE):
    """Return an mp3 of variable rate, and the length of its first frame (the Xing header)."""
    data = encode(
        samples, "MP3", "MPEG_LAYER_III", rate, bitrate_mode="VARIABLE", compression_level=0.3
    )
    kbps = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160][data[2] >> 4]
    assert b"Xing" in data[:64] or b"Info" in data[:64]
    return data, 72 * kbps * 1000 // rate + (data[2] >> 1 & 1)


def flac_of_unknown_length(samples):
    data = encode(samples, "FLAC")
    return data[:21] + bytes([data[21] & 0xF0, 0, 0, 0, 0]) + data[26:]


def agree(data, tmp_path):
    """Return the samples that every way of reading finds, and check those of clips."""
    path = tmp_path / "sound"
    path.write_bytes(data)
    whole = read(path)
    assert np.array_equal(whole, read(data))
    assert info(path).samples == info(data).samples == len(whole)
    np.testing.assert_allclose(np.concatenate(list(blocks(Clip(path), block_s=0.7))), whole)
    end_s = len(whole) / RATE
    for start_s in (0.1, end_s - 0.3, end_s / 2):
        part = read(Clip(path, start_s=start_s, end_s=start_s + 0.25))
        start = round(start_s * RATE)
        np.testing.assert_allclose(part, whole[start : start + 4000], atol=1e-5, rtol=0)
    return whole


# Lengths that are not in the header.

TAG = b"TAG" + bytes(125)
TAGS = b"ID3\3\0\0\0\0\0\x0a" + bytes(10)


@pytest.mark.parametrize("after", [b"", TAG, bytes(700)], ids=["", "tag", "zeros"])
@pytest.mark.parametrize("before", [b"", TAGS], ids=["", "tags"])
@pytest.mark.parametrize("loud", ["first", "last"])
def test_mp3_without_its_length(tmp_path, before, after, loud):
    """The mean length of the first frames differs from that of the others."""
    both = [SOUND, np.zeros_like(SOUND)]
    data, first = mp3(np.concatenate(both if loud == "first" else both[::-1]))
    found = agree(before + data[first:] + after, tmp_path)
    assert len(found) == pytest.approx(16 * RATE, abs=0.1 * RATE)
    assert len(agree(before + data + after, tmp_path)) == 16 * RATE


@pytest.mark.parametrize("rate", [RATE, 44100])
def test_mp3_that_was_cut_out_of_a_stream(rate, tmp_path):
    data = encode(SOUND, "MP3", "MPEG_LAYER_III", rate, bitrate_mode="CONSTANT")
    path = tmp_path / "radio.mp3"
    for begin in (200, 1000):
        path.write_bytes(data[begin:])
        assert info(path).duration_s == pytest.approx(len(SOUND) / rate, abs=0.3)


@pytest.mark.parametrize("after", [b"", TAG], ids=["", "tag"])
def test_flac_without_its_length(tmp_path, after):
    found = agree(flac_of_unknown_length(SOUND) + after, tmp_path)
    assert np.array_equal(found, read(encode(SOUND, "FLAC")))


# Several streams in one file.

STREAMS = [("OGG", "VORBIS"), ("OGG", "OPUS")]
STREAMS += [(format, "PCM_16") for format in ("FLAC", "WAV", "AIFF", "CAF")]


@pytest.mark.parametrize(("format", "subtype"), STREAMS)
def test_joined_streams_are_read_one_after_the_other(tmp_path, format, subtype):
    one, two = (encode(part, format, subtype) for part in (SOUND[:40000], SOUND[40000:72000]))
    for parts in ([one, two], [one, one], [one, two, one]):
        expected = np.concatenate([read(part) for part in parts])
        assert np.array_equal(agree(b"".join(parts), tmp_path), expected)


def test_joined_mp3(tmp_path):
    one, two = (mp3(part)[0] for part in (SOUND[:40000], SOUND[40000:72000]))
    for more in (one, TAGS + two, TAG + two, two):
        expected = 40000 + (40000 if more == one else 32000)
        assert len(agree(one + more, tmp_path)) == pytest.approx(expected, abs=0.3 * RATE)


def test_a_file_is_counted_once_however_many_there_are(tmp_path, monkeypatch):
    counted, count = [], decode._LibsndfileSound._count
    monkeypatch.setattr(decode, "_MAX_LAYOUTS", 2)
    monkeypatch.setattr(
        decode._LibsndfileSound, "_count", lambda self: counted.append(self) or count(self)
    )
    files = [tmp_path / f"{number}.flac" for number in range(5)]
    for file in files:
        file.write_bytes(flac_of_unknown_length(SOUND[:RATE]))
    assert {info(file).samples for file in 2 * files} == {RATE}
    assert len(counted) == len(files)


def test_more_than_a_thousand_joined_streams(monkeypatch):
    one = encode(SOUND[:160], "FLAC")
    assert len(read(1200 * one)) == 1200 * 160
    monkeypatch.setattr(decode, "MOST_STREAMS", 1100)
    with pytest.raises(AudioError, match="more than 1100 concatenated streams; cut it"):
        read(1300 * one)


@pytest.mark.parametrize("kind", [("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")])
def test_joined_streams_of_different_kinds_are_named(kind):
    data = encode(SOUND, *kind) + encode(SOUND, *kind, rate=8000)
    with pytest.raises(AudioError, match=r"streams of different kinds.*16000 Hz.*8000 Hz.*ffmpeg"):
        read(data)


def test_data_after_mp3_is_reported(capsys):
    data = encode(SOUND, "MP3", "MPEG_LAYER_III")
    read(data + b"APETAGEX" + bytes(5000))
    assert capsys.readouterr().err == ""
    read(data + encode(SOUND))
    assert f"its last {len(encode(SOUND))} bytes are not mp3" in capsys.readouterr().err


@pytest.mark.parametrize(("format", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS")])
def test_tags_of_mp3_before_another_file(tmp_path, format, subtype):
    data = encode(SOUND, format, subtype)
    assert np.array_equal(agree(TAGS + data + data, tmp_path), agree(data + data, tmp_path))
    with pytest.raises(AudioError, match="cut short"):
        info(TAGS + data[: len(data) // 2])


# Headers that differ from the data.

SIZES = {  # of formats whose header says how many bytes of sound follow: its place and order
    "WAV": (b"data", 4, "<I"),
    "AU": (b".snd", 8, ">I"),
    "AIFF": (b"SSND", 4, ">I"),
    "RF64": (b"ds64", 16, "<Q"),
    "W64": (b"data\xf3\xac\xd3\x11", 16, "<Q"),
    "CAF": (b"data", 4, ">Q"),
}


def promising(format, more):
    data = bytearray(encode(SOUND, format))
    name, after, kind = SIZES[format]
    place = data.index(name) + after
    (size,) = struct.unpack_from(kind, data, place)
    struct.pack_into(kind, data, place, size + more)
    return bytes(data), size


@pytest.mark.parametrize("format", SIZES)
def test_a_little_less_than_promised_is_read_and_much_less_refused(format, tmp_path, capsys):
    data = encode(SOUND, format)
    for cut in (1, 100, 4001):
        found = agree(data[:-cut], tmp_path)
        assert len(SOUND) - 2010 <= len(found) < len(SOUND)
        assert np.array_equal(found, read(data)[: len(found)])
        said = capsys.readouterr().err
        assert said.count(f"{tmp_path}/sound: it ends 0.") == 1
    for cut in (20001, len(data) // 2):
        with pytest.raises(AudioError, match="cut short"):
            read(data[:-cut])


@pytest.mark.parametrize("format", SIZES)
def test_a_header_that_promises_a_little_more(format, tmp_path, capsys):
    data, _ = promising(format, 100)
    assert len(SOUND) - 4 <= len(agree(data, tmp_path)) <= len(SOUND)  # libsndfile and CAF
    assert capsys.readouterr().err.count(f"{tmp_path}/sound: it ends 0.003 s before") == 1


@pytest.mark.parametrize("format", ["WAV", "RF64", "AU"])
def test_a_header_that_promises_less_than_there_is(format, tmp_path, capsys):
    data, size = promising(format, -100000)
    assert np.array_equal(agree(data, tmp_path), read(encode(SOUND, format)))
    said = capsys.readouterr().err
    assert f"sound: its header promises {size - 100000} bytes of sound, but {size} are" in said


@pytest.mark.parametrize("after", [b"LIST\4\0\0\0INFO", TAG, b"id3 \3\0\0\0ab\0\0", b"\0"], ids=str)
def test_chunks_after_the_samples_of_a_wav_file_are_not_read(after, tmp_path, capsys):
    assert np.array_equal(agree(encode(SOUND) + after, tmp_path), read(encode(SOUND)))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("channels", [1, 2])
def test_flac_that_promises_less_than_there_is(channels, tmp_path, capsys):
    data = encode(np.stack([SOUND] * channels, 1), "FLAC")
    assert np.array_equal(agree(data, tmp_path), read(data)) and capsys.readouterr().err == ""
    short = data[:22] + (64000).to_bytes(4, "big") + data[26:]
    assert np.array_equal(agree(short, tmp_path), read(data))
    assert "sound: its header promises 64000 samples, but more" in capsys.readouterr().err


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_sound_in_two_chunks_of_a_wav_file(subtype, tmp_path, capsys):
    data = encode(SOUND, subtype=subtype)
    found = agree(data + data[36:], tmp_path)
    assert np.array_equal(found, np.tile(read(data), 2))
    assert "all of them are read" in capsys.readouterr().err


def test_a_data_chunk_whose_size_is_cut_off():
    """The number of samples is odd, so that a pad byte comes before the name."""
    data = encode(SOUND[:16001], subtype="PCM_U8")
    assert np.array_equal(read(data + b"data123"), read(data))


def test_a_wav_file_with_two_chunks_before_another_one(tmp_path):
    data = encode(SOUND)
    found = agree(data + data[36:] + data, tmp_path)
    assert np.array_equal(found, np.tile(read(data), 3))


def test_what_is_no_chunk_after_other_chunks_is_not_read(tmp_path, capsys):
    data = encode(SOUND) + b"LIST\4\0\0\0INFO" + b"\xa9nam\4\0\0\0name"
    assert np.array_equal(agree(data, tmp_path), read(encode(SOUND)))
    assert "the rest is not read" in capsys.readouterr().err


def test_a_long_wav_file_that_was_copied_in_part():
    data = encode(SOUND)
    with pytest.raises(AudioError, match="cut short"):
        read(data[:40] + struct.pack("<I", 3_000_000_000) + data[44:])


@pytest.mark.parametrize(
    ("format", "size"),
    [("AU", 0), ("AIFF", 0x7F000008), ("W64", (1 << 64) - 1), ("RF64", (1 << 64) - 1)],
)
def test_sizes_of_programs_that_write_into_a_pipe(format, size, tmp_path, capsys):
    _, length = promising(format, 0)
    found = agree(promising(format, size - length)[0], tmp_path)
    assert len(SOUND) - 4 <= len(found) <= len(SOUND)
    assert capsys.readouterr().err == ""


def test_big_endian_wav_that_is_cut():
    data = encode(SOUND, endian="BIG")
    assert len(read(data)) == len(SOUND)
    with pytest.raises(AudioError, match="cut short"):
        read(data[: len(data) // 2])


def test_aiff_with_more_than_it_promises(capsys):
    data, size = promising("AIFF", -100000)
    read(data)
    assert f"promises {size - 100000} bytes of sound, but {size} are" in capsys.readouterr().err


def test_vorbis_with_a_hole():
    data = encode(SOUND, "OGG", "VORBIS")
    with pytest.raises(AudioError, match="cut short or damaged"):
        read(data[: len(data) // 3] + data[2 * len(data) // 3 :])


def test_flac_whose_last_block_is_cut(tmp_path, capsys):
    data = encode(SOUND, "FLAC")
    found = agree(data[:-10], tmp_path)
    assert np.array_equal(found, read(data)[: len(found)]) and len(SOUND) - 4096 <= len(
        found
    ) < len(SOUND)
    assert "before its header says" in capsys.readouterr().err
    with pytest.raises(AudioError, match="cut short or damaged"):
        info(encode(SOUND, "FLAC")[: len(data) // 2])


def test_mp3_that_is_cut(tmp_path):
    data, _ = mp3(SOUND)
    assert len(agree(data[:-500], tmp_path)) == pytest.approx(len(SOUND), abs=0.3 * RATE)
    with pytest.raises(AudioError, match="cut short or damaged"):
        read(data[: len(data) // 2])


def test_damage_in_the_middle_of_a_flac_of_unknown_length():
    data = bytearray(flac_of_unknown_length(SOUND))
    data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
    with pytest.raises(AudioError, match="cut short or damaged after"):
        read(bytes(data))


def test_a_wav_file_beyond_4_gib(tmp_path):
    """The size has 32 bits; the file is sparse, so that it needs no space on the disk."""
    path = tmp_path / "long.wav"
    data = encode(np.zeros((8, 8)), subtype="FLOAT", rate=48000)
    size = (1 << 32) + 32 * 48000
    with open(path, "wb") as file:
        file.write(data[: -8 * 32])
        file.truncate(file.tell() + size)
        file.seek(-32, 2)
        file.write(struct.pack("<8f", *[0.5] * 8))
    content = path.open("r+b")
    place = data.index(b"data") + 4
    content.seek(place)
    content.write(struct.pack("<I", size & 0xFFFFFFFF))
    content.close()
    assert info(path).samples == size // 32
    last_s = size / 32 / 48000
    end = read(Clip(path, start_s=last_s - 0.1, channel=3), sample_rate=48000)
    assert len(end) == 4800 and end[-1] == 0.5


# Codecs that libsndfile cannot seek in.


@pytest.mark.parametrize(
    ("format", "subtype"),
    [
        *(("WAV", "GSM610"), ("WAV", "G721_32"), ("AU", "G721_32"), ("AU", "G723_24")),
        *(("WAV", "NMS_ADPCM_16"), ("WAV", "NMS_ADPCM_32"), ("W64", "GSM610"), ("AIFF", "GSM610")),
    ],
)
def test_codecs_of_telephones(format, subtype, tmp_path):
    time = np.arange(4 * 8000) / 8000
    data = encode(0.5 * np.sin(2 * np.pi * 440 * time), format, subtype, 8000)
    path = tmp_path / "call"
    path.write_bytes(data)
    whole = read(path, sample_rate=8000)
    assert info(path).samples == len(whole) == pytest.approx(32000, abs=500)
    assert np.array_equal(
        np.concatenate(list(blocks(Clip(path), sample_rate=8000, block_s=0.3))), whole
    )
    part = read(Clip(path, start_s=2.0, end_s=2.5), sample_rate=8000)
    assert np.array_equal(part, whole[16000:20000]) and part.std() == pytest.approx(0.354, abs=0.03)


@pytest.mark.parametrize(
    ("head", "codec"),
    [
        (encode(SOUND)[:20] + b"\0\x20" + encode(SOUND)[22:], "AC-3 in wav"),
        (encode(SOUND)[:20] + b"\x77\x77" + encode(SOUND)[22:], "codec 0x7777 in wav"),
        (b"OggS\0\2" + bytes(20) + b"\1\x50Speex   1.2" + bytes(69), "Speex in ogg"),
        (b"RIFF\0\1\0\0AVI LIST" + bytes(99), "a file of kind avi"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + bytes(99), "a file of kind wma"),
        (b"\xff\xf1\x60\x40" + bytes(99), "a file of kind aac"),
    ],
)
def test_codecs_that_need_pyav_are_named(head, codec, monkeypatch):
    from asr.audio import decode

    monkeypatch.setattr(decode, "installed", lambda: False)
    with pytest.raises(AudioError, match=rf"{codec}.*pip install -e '\.\[media\]'.*ffmpeg"):
        read(head)
    if media.installed():
        monkeypatch.undo()
        with pytest.raises(AudioError, match=r"ffmpeg|damaged"):
            read(head)
