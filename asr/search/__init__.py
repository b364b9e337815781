"""From log-probabilities to hypotheses: greedy and beam search, scorers, alignments."""
