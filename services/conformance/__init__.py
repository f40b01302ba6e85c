"""Tests MQTT clients against the protocol, by playing the other side.

The rules are those of docs/protocol.md. Judges are a pure core: messages and times are arguments.
"""
