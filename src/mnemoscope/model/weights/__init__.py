"""What lies on the disk or on the hub as the networks of a pipeline, all of it or a refusal."""
