"""Doorman: the HTTP management endpoint and key-value API."""
