"""The one object that turns texts into verdicts, and how it is put together."""

from hatex.engine.engine import SPACES, Engine
from hatex.engine.loading import assemble, load_engine

__all__ = ["SPACES", "Engine", "assemble", "load_engine"]
