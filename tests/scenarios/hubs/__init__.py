"""Hubs of notebooks, by the files of deploy/jupyterhub."""
