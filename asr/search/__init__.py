"""Log-probabilities to hypotheses: scorers (with ctc_prefix) -> greedy, beam; align, diagnose."""
