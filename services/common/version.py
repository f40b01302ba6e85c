VERSION = "0.2.0"
"""Of the whole project; the containers hold its sources without the package's own metadata."""
