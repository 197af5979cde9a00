"""Offline tools: verification on labelled pairs, operating points, and activation sets.

*Operating point* is the threshold on scores; *activation set* is what sets the ranges of an INT8
model. Neither is called calibration here.
"""
