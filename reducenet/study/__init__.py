"""From a study file to a report: read -> plan -> run -> report. Imports no torch: the core is reached by running notebooks and helpers."""
