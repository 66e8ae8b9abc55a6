"""The constant offset between the clocks of two cameras, from what they have seen."""
