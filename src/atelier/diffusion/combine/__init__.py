"""What is composed around a denoiser: denoisers in, a denoiser out. One file each."""
