"""The project measured against itself and its peers: ``asr bench``."""
