"""Text to language models, and what they say about a text: kneser_ney, cli (``asr lm``)."""
