"""A small part of Apache Parquet: enough for tables of our own, with the standard library alone.

What is written can be read by whatever reads Parquet; what is read is what was written here. Decision 0015
says why this is no package of somebody else's.
"""
