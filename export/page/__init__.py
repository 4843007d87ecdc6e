"""The search page: files of the browser, and the routes that a server mounts beside `/v1`."""

from .routes import FOLDER as FOLDER
from .routes import page_routes as page_routes

__all__ = ["FOLDER", "page_routes"]
