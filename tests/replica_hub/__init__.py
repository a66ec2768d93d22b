"""A hub of models on 127.0.0.1, and repositories for it in the layouts of the real ones."""

from replica_hub.server import Hub, Repository

__all__ = ["Hub", "Repository"]
