"""What can be declared: YAML in, documents or located errors out. Pure."""
