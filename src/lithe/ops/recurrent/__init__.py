"""Layers that remember: recurrent networks in all their forms."""
