"""A network as it would be deployed: traced, fused, exported, with a report of what was done."""
