"""What a page of the course needs beyond the core: `page = open_page(...)`, live panels, predictions, exercises, recorded evidence."""
