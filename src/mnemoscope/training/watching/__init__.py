"""What is watched while a model trains: probes, previews, the log."""
