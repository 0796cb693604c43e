"""A plan carried out: one run through papermill, many of them by Dask, in kernels that are forked."""
