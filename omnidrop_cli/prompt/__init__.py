"""Clips and question → the model's input: chat text, patches, mel features, token order and positions."""
