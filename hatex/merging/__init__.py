"""Adapters into one adapter, and merged models out to other programs."""
