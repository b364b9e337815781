"""File to waveform to features, as numpy arrays.

- clip.py: a file, bytes or a command, a stretch or channel of it, and how it is read
- decode.py: decoders behind one interface, and lengths that are counted
- header.py: where the sound lies in a file, and what its header promises
- media.py: sound of m4a, mp4, webm and other files, where PyAV is installed
- formats.py: the list of endings that count as audio
- folders.py: the audio files of a folder
- arrays.py: samples that come as arrays
- channels.py: channels to one waveform
- resample.py: another sample rate, at once or in blocks
- memory.py: lengths that were counted, and warnings that were printed
- vad.py: what a detector of speech does
- features.py: waveforms to log-mel filterbanks or MFCC with Kaldi's values, normalised
- cmvn.py: mean and variance normalisation, and its statistics in Kaldi's text format
"""
