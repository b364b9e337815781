"""The learning rate schedule."""

import math

from asr.config import OptimConfig

LONGEST_WARMUP = 1 / 3  # of the training


def learning_rate(step: int, done: float, config: OptimConfig) -> float:
    """Return the learning rate of a step: linear warm-up, plateau, cosine decay.

    The warm-up takes at most a third of the training.

    Args:
        step: number of the step, from 0.
        done: fraction of the training that is done, from 0 to 1.
        config: peak, warm-up in steps, and decay as a fraction of the training.
    """
    warm_up = min(1.0, max((step + 1) / max(1, config.warmup_steps), done / LONGEST_WARMUP))
    if config.decay == "none" or done <= config.decay_start:
        return config.learning_rate * warm_up
    decayed = (done - config.decay_start) / (1 - config.decay_start)
    cosine = 0.5 * (1 + math.cos(math.pi * decayed))
    return config.learning_rate * warm_up * (config.final_ratio + (1 - config.final_ratio) * cosine)
