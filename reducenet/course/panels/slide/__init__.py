"""Page 01, "Slide the activation": lam from 0 to 1, two kernels that become one, the ring, and what two trained networks say to it."""
