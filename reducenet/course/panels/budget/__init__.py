"""Page 05, "Your budget": what a training budget and a size buy among all arms that were measured, and what lottery tickets buy."""
