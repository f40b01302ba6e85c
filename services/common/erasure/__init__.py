"""Erasure of faces: selections, the signed log of orders and results, and removal from a store."""
