"""`disparity`, sidecast's default codec: a lapped linear encoder; a decoder that finds the side view along the rows.

Imports torch only, so that it trains anywhere.
"""
