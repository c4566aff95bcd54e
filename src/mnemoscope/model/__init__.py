"""A diffusers pipeline seen as a noise predictor: loaded, encoded, stepped, hooked."""
