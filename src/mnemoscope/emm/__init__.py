"""How much a model can memorize: the optimal denoiser, training, the memorization ratio and its factors."""
