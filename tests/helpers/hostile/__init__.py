"""A campaign against every command: kills at every write, and inputs that no one should have to expect."""
