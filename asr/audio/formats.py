"""Which files count as audio: the one list of endings for folders, imports and noise."""

SOUNDFILE_SUFFIXES = frozenset(
    {
        *(".wav", ".wave", ".rf64", ".w64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2"),
        *(".mpga", ".sph", ".nist", ".aiff", ".aif", ".aifc", ".au", ".snd", ".caf", ".voc"),
    }
)
"""Endings of what libsndfile reads."""

MEDIA_SUFFIXES = frozenset(
    {
        *(".m4a", ".m4b", ".m4v", ".mp4", ".mov", ".3gp", ".3g2", ".webm", ".mkv", ".mka"),
        *(".avi", ".wma", ".wmv", ".asf", ".aac", ".ac3", ".eac3", ".amr", ".awb", ".spx"),
        *(".ogv", ".flv", ".mpg", ".mpeg", ".wv", ".ape", ".tta", ".weba", ".3ga", ".m4r"),
    }
)
"""Endings of what PyAV reads; where it is not installed, such a file is an error that says so."""

AUDIO_SUFFIXES = SOUNDFILE_SUFFIXES | MEDIA_SUFFIXES
"""All endings, in lower case and with the dot."""

READABLE = "expected wav, flac, ogg, opus, mp3, m4a, mp4 or another audio or video file"
"""For messages; the list of endings is too long for a line."""
