"""The gateway over real HTTP, with a stand-in for the queue; service/test_serve.py has the whole service."""
