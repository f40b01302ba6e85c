"""Plays the other side to a client that somebody else has written, and says what is wrong with it.

What must hold stands in docs/protocol.md; what plays is a pure core, told of messages and of the time.
"""
