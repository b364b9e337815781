"""File to waveform to features.

- io.py: audio files, bytes and pipes to 16 kHz mono waveforms, and back to wav
- clip.py: what can be read: a file, bytes or a command, and a stretch or channel of it
- header.py: where the sound lies in a file, and what its header promises
- decode.py: decoders behind one face, and lengths that are counted
- channels.py: channels to one waveform
- resample.py: another sample rate, at once or in blocks
- memory.py: lengths that were counted, and warnings that were printed
- formats.py: the list of endings that count as audio
- entry.py: which entries of wav.scp are commands
- media.py: sound of m4a, mp4, webm and other files, where PyAV is installed
- vad.py: where somebody speaks
- augment.py: random speed, noise and gain for waveforms; SpecAugment for normalised features
- fbank.py: waveforms to log-mel filterbanks or MFCC with Kaldi's values
- cmvn.py: mean and variance normalisation, and its statistics in Kaldi's text format
"""
