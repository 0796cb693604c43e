"""Trained networks that run in the reader's browser: a network as plain data, the executor of such data, and panels built on it."""
