"""The one object that turns texts into verdicts, and how it is put together."""

from hatex.engine.engine import Engine
from hatex.engine.loading import assemble, load_engine
from hatex.engine.prompted import SPACES

__all__ = ["SPACES", "Engine", "assemble", "load_engine"]
