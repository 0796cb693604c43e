"""Training and judging: losses, the one training loop, BN statistics, accuracy and costs."""
