"""Page 04, "Fold the branch": a trained side branch let in and folded away, its change cut to a rank, soft labels at a temperature."""
