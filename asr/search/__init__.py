"""Log-probabilities to hypotheses: protocol, scorers, beam; positions of characters: alignment."""
