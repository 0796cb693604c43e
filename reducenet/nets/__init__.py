"""Networks and what they are made of: layers, activations, blocks, and where their first numbers come from."""
