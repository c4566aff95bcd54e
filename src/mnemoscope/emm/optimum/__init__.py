"""The optimal denoiser of a training set, in closed form."""
