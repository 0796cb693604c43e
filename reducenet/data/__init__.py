"""Data sets: where they lie, and the tensors that are made of them."""
