"""What the tests share: servers, mounts, fixtures and fakes; one module for each thing.

The modules of fixtures are pytest plugins, named in `conftest.py`; all else is imported from here:
`from kit.gateway import Gateway`.
"""
