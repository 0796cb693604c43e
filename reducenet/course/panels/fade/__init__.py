"""Page 03, "Fade the branch": the scaler from 1 to 0, an image picked or drawn, BN statistics estimated anew."""
