"""CARP without input or output: bytes and a clock reading in; packets, effects and the next deadline out."""
