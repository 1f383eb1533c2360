"""Adapter loop, router fit and losses over votes."""
