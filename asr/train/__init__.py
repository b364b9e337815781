"""Training: data and loader -> step -> loop, with the run folder, log and checkpoints."""
