"""EMM: factors over sizes and seeds, estimated, compared and planned."""
