"""What a page of the course needs beyond the core: parameters that are checked, predictions, panels, exercise checks, recorded numbers."""
