"""What is exact: kernels folded, merged and added, and the repairs where that is refused."""
