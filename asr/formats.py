"""The file name extensions that count as audio, for folders, imports and noise."""

_SOUNDFILE = (
    "wav wave rf64 w64 flac ogg oga opus mp3 mp2 mpga sph nist aiff aif aifc au snd caf voc"
)
_PYAV = (
    "m4a m4b m4r m4v mp4 mov 3ga 3gp 3g2 webm weba mkv mka avi wma wmv asf aac ac3 eac3 amr awb "
    "spx ogv flv mpg mpeg wv ape tta"
)

AUDIO_SUFFIXES = frozenset(f".{name}" for name in f"{_SOUNDFILE} {_PYAV}".split())
"""In lower case and with the dot. Without PyAV, reading one of its files is an error."""

READABLE = "expected wav, flac, ogg, opus, mp3, m4a, mp4 or another audio or video file"
"""For error messages; the list of all extensions is too long for a line."""
