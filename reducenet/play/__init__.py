"""Sentences played: the one interpreter, one run of a study, checkpoints, and sentences in miniature or once more."""
