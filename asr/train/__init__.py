"""Batches to a trained model: cli -> loop, with schedule, state, journal and pictures."""
