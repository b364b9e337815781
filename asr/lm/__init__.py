"""Text to language models and back: kneser_ney, perplexity, cli (``asr lm``)."""
