"""The learning rate of every arm, chosen by one rule: on validation images, with seeds that no result uses, before anything else runs."""
