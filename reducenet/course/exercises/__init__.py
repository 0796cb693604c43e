"""The exercises of the pages, one file each: what is asked, and how every likely slip would answer."""
