"""Recordings: MCAP files with the very bytes of the wire.

layout      what a recording is (the specification)    chunk    messages to chunks and their indexes
writer      chunks to a file, a clean end on a full disk
records     a file by place, read in pieces            scan     every sound message, every damaged place; never stops
recognise   what is no recording of ours               salvage  what can be saved from a damaged place
index       a file's packets, each with the side view that it was paired with; what `info`, `repair` and `replay` read
repair      a damaged file made whole                  foxglove the preview as Foxglove wants it
"""
