"""The base model, gated layers, scoring and generation."""
