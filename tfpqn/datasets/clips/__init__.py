"""Clips: arrays, folders of videos, prepared sets, and which of their frames are taken."""
