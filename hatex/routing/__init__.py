"""Encoder, router and strategies: from a post to its gate weights."""
