"""Orchestration of each verb, without terminal or command line."""
