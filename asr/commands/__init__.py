"""The command line: a file for each verb, with main(argv) -> exit code."""

GROUPS = {
    "prepare": ("data", "features", "chars", "lm"),
    "train": ("train", "average", "calibrate", "export"),
    "recognise": ("transcribe", "listen", "decode", "align"),
    "score": ("score", "tune"),
    "look inside": ("models", "bench", "doctor", "completion"),
}
VERBS = {  # each is a module of this folder with main(argv) -> exit code
    "data": "validate, fix, describe, cut and import Kaldi data directories",
    "features": "count frames and gather CMVN statistics of data directories",
    "chars": "collect the characters of the training transcripts",
    "train": "train a model",
    "lm": "make language models, and compare them on a text",
    "average": "average the weights of several checkpoints",
    "decode": "decode a data directory",
    "score": "word, character and sentence error rates",
    "tune": "choose the weights of a search on a dev set",
    "transcribe": "transcribe audio files",
    "listen": "transcribe what the microphone hears",
    "align": "align transcripts with their audio: the time of each word",
    "models": "list the models that come with this installation",
    "export": "write a smaller copy of a model, to pass on",
    "calibrate": "fit a model's confidences and flags on transcribed recordings",
    "bench": "measure speed and memory, beside other toolkits",
    "doctor": "check versions, devices and audio formats",
    "completion": "print what completes verbs and options in bash or zsh",
}
