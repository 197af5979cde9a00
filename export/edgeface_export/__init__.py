"""Turns a trained face backbone into a verified bundle."""
