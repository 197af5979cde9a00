"""Attendance for a small office: who is in, since when, on one or more cameras."""
