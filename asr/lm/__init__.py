"""N-gram language models: ARPA files, counting, look-ahead, perplexity."""
