"""File to waveform to features.

- io.py: audio files, bytes and pipes to 16 kHz mono waveforms, and back to wav
- formats.py: the list of endings that count as audio
- entry.py: which entries of wav.scp are commands
- media.py: sound of m4a, mp4 and webm files, where PyAV is installed
- vad.py: where somebody speaks
- augment.py: random speed, noise and gain for waveforms; SpecAugment for normalised features
- fbank.py: waveforms to log-mel filterbanks or MFCC with Kaldi's values
- cmvn.py: mean and variance normalisation, and its statistics in Kaldi's text format
"""
