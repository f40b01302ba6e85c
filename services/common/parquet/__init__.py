"""A small part of Apache Parquet: enough for our own tables, with the standard library alone.

Every Parquet reader can read what is written here; only such files can be read here. Decision 0015 says why
no other package is used.
"""
