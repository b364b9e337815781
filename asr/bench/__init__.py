"""Benchmarks of speed and memory, beside other toolkits: ``asr bench``."""
