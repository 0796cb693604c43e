"""The course as a site: every page executed, every panel alive, every report and run, in one folder that opens by double click."""
