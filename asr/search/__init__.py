"""Log-probabilities to hypotheses: scorer -> greedy, beam (with ctc_prefix), align, diagnose."""
