"""Training and fine-tuning: data with duplication and captions, the objective, the loop, probes while it runs."""
