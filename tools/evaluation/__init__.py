"""Rate-distortion: codecs and classical rivals over stereo pictures, by the bytes that they really write."""
