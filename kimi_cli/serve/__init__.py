"""Running a model on one's own GPUs: what is there, what fits, and the command that starts it."""
