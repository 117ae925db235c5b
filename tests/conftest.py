"""Settings of all tests."""

from hypothesis import settings

# How long an example takes says nothing about a busy machine.
settings.register_profile("creps", deadline=None)
settings.load_profile("creps")
