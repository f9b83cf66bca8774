"""The test kit: servers, mounts, fixtures and fakes that several tests use.

The modules of fixtures are pytest plugins, named in `conftest.py`; all else is imported from here:
`from kit.gateway import Gateway`.
"""
