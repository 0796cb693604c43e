"""From a study file to a report: grammar -> plan -> store -> execute -> drive -> statistics -> report. Imports no torch.

The core is reached only by running notebooks.
"""
