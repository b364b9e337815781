"""Log-probabilities to hypotheses: scorers (with ctc_prefix) -> greedy, beam; alignment."""
