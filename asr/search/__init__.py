"""Log-probabilities to hypotheses: protocol, scorers -> greedy, beam; positions of characters."""
