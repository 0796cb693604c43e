"""What the article builds on, or is compared with. Each file is one method: moves, losses and searches on the core's networks."""
