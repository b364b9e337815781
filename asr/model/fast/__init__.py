"""Fast forms of the network for processors (C++) and GPUs (Triton), found by :mod:`lookup`."""
