from services.common.runtime.metrics import Drops
from services.store.metrics import DROPPED

FACES = Drops(DROPPED, "store.face_dropped")
"""Faces that were let go, before the door or behind it; whoever has sent one has it still."""
